"""Every leakage measurement of a record once more, from the raw scores beside it: no attack, no network is needed."""

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audit.answers import Answers
from audit.errors import AuditError
from audit.observation import Observation, Yardstick, measure
from audit.records import AttackResult, Measurement, Record, SeedResult
from audit.store import hash_tensors
from audit.zips import Limits, read_members

LIMITS = Limits(files=50_000, packed=2**30, unpacked=4 * 2**30, ratio=1000)


def read_scores(source: Path | bytes, where: str = "") -> dict[str, Tensor]:
    """What a run wrote as scores.npz, a file or its bytes. Nothing in it is ever executed.

    Raises AuditError naming the file (or ``where``) and what is wrong: see `read_members`; an array that is not of
    numbers, or whose shape is not that of its data.
    """
    where = where or (f"the raw scores {source}" if isinstance(source, Path) else "the raw scores")
    members = read_members(source, where, LIMITS, lambda name: name.endswith(".npy"))
    return {name.removesuffix(".npy"): _array(content, f"{where}: {name}") for name, content in members.items()}


def _array(content: bytes, where: str) -> Tensor:
    """The array of an .npy file, allocated only after its header and its data were found to agree."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file, max_header_size=1000)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise AuditError(f"{where} has no readable header: {error}") from error
    if dtype.kind not in "fiub" or fortran:
        raise AuditError(f"{where} holds {dtype} and not numbers in rows")
    data = content[file.tell() :]
    if math.prod(shape) * dtype.itemsize != len(data) or min(shape, default=1) < 0:
        raise AuditError(f"{where} has a shape, {list(shape)}, that is not that of its data")
    try:
        return torch.from_numpy(np.frombuffer(bytearray(data), dtype).reshape(shape))
    except (TypeError, ValueError) as error:
        raise AuditError(f"{where} cannot be read: {error}") from error


def recomputed(record: Record, scores: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Measurement, ...]]]:
    """(place, measurements) of everything of the record that has raw scores, 'seed 0/privatesnn/reconversion'.

    Raises AuditError where scores are missing, or do not have the hash that the record names.
    """
    for result in record.results:
        for place, attack in scored_places(result):
            own = _tensors(scores, place)
            if hash_tensors(own) != attack.scores_hash:
                raise AuditError(f"the raw scores of {place} do not have the hash that the record names")
            if attack.evidence == "membership":
                yield place, Answers.of(own).measured()
                continue
            found = Observation.of(own)
            per_class = attack.images // len(record.dataset.classes)
            private = Observation.of(_tensors(scores, f"seed {result.seed}/private sample"))
            real = Observation.of(_tensors(scores, f"seed {result.seed}/real images, {per_class} per class"))
            yield place, measure(found, Yardstick(private, real, record.dataset.classes, _unfit(attack)))


def scored_places(result: SeedResult) -> Iterator[tuple[str, AttackResult]]:
    """Everything of a seed that has raw scores, by the name that they are kept under."""
    seed = f"seed {result.seed}"
    for control in result.controls:
        yield f"{seed}/{control.attack}", control
    for defense in result.defenses:
        sets = ((defense.defense, defense.attacks), (f"{defense.defense} (untrained)", defense.untrained))
        for target, attacks in sets:
            for attack in attacks:
                if attack.scores_hash is not None:
                    yield f"{seed}/{target}/{attack.attack}", attack


def _tensors(scores: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    own = {name.removeprefix(f"{place}/"): rows for name, rows in scores.items() if name.startswith(f"{place}/")}
    if not own:
        raise AuditError(f"there are no raw scores of {place}")
    return own


def _unfit(attack: AttackResult) -> str | None:
    """The evaluators' unfitness is a finding on the test images, which the record holds as the reason."""
    first = attack.measurements[0]
    found = first.status == "undefined" and first.reason is not None and "no better than chance" in first.reason
    return first.reason if found else None
