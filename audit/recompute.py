"""Every leakage measurement of a record once more, from the raw scores beside it: no attack, no network is needed."""

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


def read_scores(path: Path) -> dict[str, Tensor]:
    """What a run wrote as scores.npz. Raises AuditError where it cannot be read; nothing in it is ever executed."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: torch.from_numpy(stored[name]) for name in stored}
    except (OSError, ValueError) as error:
        raise AuditError(f"cannot read the raw scores {path}: {error}") from error


def recomputed(record: Record, scores: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Measurement, ...]]]:
    """(place, measurements) of everything of the record that has raw scores, 'seed 0/privatesnn/reconversion'.

    Raises AuditError where scores are missing, or do not have the hash that the record names.
    """
    for result in record.results:
        for place, attack in _scored(result):
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


def _scored(result: SeedResult) -> Iterator[tuple[str, AttackResult]]:
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
