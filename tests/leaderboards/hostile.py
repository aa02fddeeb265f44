"""A submission that is accepted, and the tools to spoil it: archives with a manifest that fits whatever they hold."""

import copy
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save
from torch import Tensor

from audit.answers import Answers
from audit.metrics.statistics import proportion
from audit.observation import Observation, Yardstick, measure
from audit.pipeline import prepare_data
from audit.recompute import read_scores, recomputed, scored_places
from audit.records import AttackResult, Measurement, NetworkInfo, Record, SeedResult, Submission
from audit.store import hash_tensors
from audit.verdicts import judged, unjudged
from leaderboards.archive import MANIFEST, RECORD, SCORES, unpack
from leaderboards.entries import UNDEFENDED
from leaderboards.submission import packed, submit
from leaderboards.verification import verify

WHO = Submission(name="PrivateSNN", authors=("A. Author", "B. Author"), licence="CC-BY-4.0")
TARGET = "targets/privatesnn-seed0.safetensors"
Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Contents:
    """What an archive holds; every method gives other contents, and the manifest is made to fit when it is written."""

    files: Mapping[str, bytes]
    submission: Any = WHO

    @property
    def record(self) -> Record:
        return Record.parse(self.files[RECORD], RECORD)

    @property
    def document(self) -> Any:
        return json.loads(self.files[RECORD])

    @property
    def scores(self) -> dict[str, Tensor]:
        return read_scores(self.files[SCORES])

    @property
    def weights(self) -> dict[int, bytes]:
        """By seed."""
        return {0: self.files[TARGET]}

    def holding(self, files: Mapping[str, bytes | None]) -> "Contents":
        """With other files; None removes one."""
        merged = {**self.files, **files}
        return replace(self, files={name: content for name, content in merged.items() if content is not None})

    def claiming(self, record: Record | Mapping[str, Any]) -> "Contents":
        """With another record, fit or not."""
        text = record.text() if isinstance(record, Record) else json.dumps(record)
        return self.holding({RECORD: text.encode()})

    def at(self, path: Place, value: Any) -> "Contents":
        """With another value at one place of the record."""
        return self.claiming(put(self.document, path, value))

    def with_scores(self, scores: Mapping[str, Tensor]) -> "Contents":
        return self.holding({SCORES: packed({name: rows.numpy() for name, rows in scores.items()})})

    def with_tensor(self, name: str, tensor: Tensor | None) -> "Contents":
        """With another tensor in the target, and the description of its layers as it was."""
        tensors = load(self.files[TARGET])
        tensors = {k: v for k, v in {**tensors, name: tensor}.items() if v is not None}
        return self.holding({TARGET: save(tensors, {"network": json.dumps(self.description)})})

    @property
    def description(self) -> Any:
        """Of the target's layers."""
        content = self.files[TARGET]
        (length,) = struct.unpack("<Q", content[:8])
        return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["network"])

    def describing(self, description: Any) -> "Contents":
        return self.holding({TARGET: save(load(self.files[TARGET]), {"network": json.dumps(description)})})

    def manifest(self, **changed: Any) -> bytes:
        listed = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in self.files.items()
        }
        submission = self.submission.model_dump() if isinstance(self.submission, Submission) else self.submission
        return json.dumps({"format": 1, "submission": submission, "files": listed} | changed).encode()

    def write(self, path: Path, manifest: bytes | None = None) -> Path:
        """As somebody does who knows what a manifest is; without compression, which is quicker."""
        return zipped({MANIFEST: self.manifest() if manifest is None else manifest, **self.files}, path)


def zipped(files: Mapping[str, bytes], path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@cache
def honest(run: Path) -> Contents:
    """The submission of a tiny run, its evaluators as if they had been trained long enough to recognise an image.

    Nothing else in the tests runs an audit in which attacks have a leakage: features and logits are drawn here, and
    everything that follows from them is measured.
    """
    with TemporaryDirectory() as work:
        submit(run, WHO, Path(work) / "honest.zip")
        _, files = unpack(Path(work) / "honest.zip")
    contents = Contents({name: content for name, content in files.items() if name != MANIFEST})
    record, scores = contents.record, contents.scores
    results = tuple(result.model_copy(update=_trained(result)) for result in record.results)
    drawn = _drawn(scores)
    return contents.with_scores(drawn).claiming(measured(record.model_copy(update={"results": results}), drawn))


def _trained(result: SeedResult) -> dict[str, NetworkInfo]:
    """The evaluators with an accuracy above chance."""
    infos = {"evaluator": result.evaluator, "second_evaluator": result.second_evaluator}
    return {
        role: info.model_copy(update={"accuracy": proportion(info.accuracy.name, 54, 60, "higher is better")})
        for role, info in infos.items()
        if info is not None
    }


def _drawn(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Real images far from nothing, attacked targets between them, untrained ones at nothing."""
    generator = torch.Generator().manual_seed(0)
    prototypes = 3 * torch.randn(10, 8, generator=generator)
    made = {}
    for name, rows in scores.items():
        part = name.rpartition("/features/")[0] or name.rpartition("/logits/")[0]
        if part:
            near = 0.1 if "untrained" in part or "noise" in part else 0.6 if name.count("/") > 3 else 1.0
            labels = scores[f"{part}/labels"]
            to = prototypes if "/features/" in name else 4 * torch.eye(10)
            rows = near * to[labels] + torch.randn(rows.shape, generator=generator)
        made[name] = rows
    return made


def measured(record: Record, scores: Mapping[str, Tensor]) -> Record:
    """The record that is made of these raw scores: their hashes, every measurement of them, and the verdicts."""

    def hashed(place: str, attack: AttackResult) -> AttackResult:
        own = {k.removeprefix(f"{place}/"): rows for k, rows in scores.items() if k.startswith(f"{place}/")}
        return attack.model_copy(update={"scores_hash": hash_tensors(own), "measurements": ()})

    bare = _each(record, {p: hashed(p, a) for result in record.results for p, a in scored_places(result)})
    again = dict(recomputed(bare, scores))
    places = [scored for result in bare.results for scored in scored_places(result)]
    whole = _each(bare, {p: attack.model_copy(update={"measurements": again[p]}) for p, attack in places})
    results = tuple(
        result.model_copy(update={"defenses": judged(unjudged(result.defenses), UNDEFENDED)})
        for result in whole.results
    )
    return whole.model_copy(update={"results": results})


def _each(record: Record, attacks: Mapping[str, AttackResult]) -> Record:
    """The record with other lines of attacks, by the name that their raw scores have."""

    def of(result: SeedResult) -> SeedResult:
        seed, defenses = f"seed {result.seed}", []
        for d in result.defenses:
            own = tuple(attacks.get(f"{seed}/{d.defense}/{a.attack}", a) for a in d.attacks)
            twin = tuple(attacks.get(f"{seed}/{d.defense} (untrained)/{a.attack}", a) for a in d.untrained)
            defenses.append(d.model_copy(update={"attacks": own, "untrained": twin}))
        controls = tuple(attacks.get(f"{seed}/{c.attack}", c) for c in result.controls)
        return result.model_copy(update={"controls": controls, "defenses": tuple(defenses)})

    return record.model_copy(update={"results": tuple(map(of, record.results))})


def leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """(path, value) of everything that is neither a list nor an object."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def altered(value: Any) -> Any:
    """Another value of the same kind, as near as somebody would go who wants nobody to see it."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.001 + 0.001
        case str():
            return f"{value}x"
    return "x"


def named(document: Any, path: Place) -> str:
    """The path as text, with the names of defenses and attacks in the place of their numbers."""
    words, inner = [], document
    for key in path:
        inner = inner[key]
        name = next((inner[k] for k in ("defense", "attack") if isinstance(inner, dict) and k in inner), key)
        words.append(str(name))
    return "/".join(words)


def remember(patch: pytest.MonkeyPatch) -> None:
    """What is measured of one content is measured once, whatever archive it comes in."""
    patch.setattr("audit.recompute.measure", _remembered_measure)
    patch.setattr("audit.recompute.Answers.measured", _remembered_answers)
    patch.setattr("audit.recompute.read_scores", _read)
    patch.setattr("audit.pipeline.prepare_data", _prepared)
    patch.setattr("audit.settings.TypeAdapter", _adapter)


_MEASURED: dict[str, tuple[Measurement, ...]] = {}
_MEASURE, _ANSWERS = measure, Answers.measured
_read, _prepared, _adapter = cache(read_scores), cache(prepare_data), cache(TypeAdapter)


def _remembered_measure(found: Observation, yardstick: Yardstick) -> tuple[Measurement, ...]:
    seen = (found, yardstick.private, yardstick.real)
    key = str([*(hash_tensors(each.tensors()) for each in seen), yardstick.classes, yardstick.unfit])
    if key not in _MEASURED:
        _MEASURED[key] = _MEASURE(found, yardstick)
    return _MEASURED[key]


def _remembered_answers(answers: Answers) -> tuple[Measurement, ...]:
    key = hash_tensors(answers.tensors())
    if key not in _MEASURED:
        _MEASURED[key] = _ANSWERS(answers)
    return _MEASURED[key]


def put(document: Any, path: Place, value: Any) -> Any:
    """The document with ``value`` at ``path``; what lies beside the path is shared with the one given."""
    if not path:
        return value
    changed = copy.copy(document)
    there = document[path[0]] if len(path) > 1 else None
    changed[path[0]] = put(there, path[1:], value)
    return changed


def dropped(document: Any, path: Place) -> Any:
    """The document without what lies at ``path``."""
    changed = copy.copy(document)
    if len(path) > 1:
        changed[path[0]] = dropped(document[path[0]], path[1:])
    else:
        del changed[path[0]]
    return changed


def array(values: np.ndarray, **options: Any) -> bytes:
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, values, **options)
    return file.getvalue()


def objection(contents: Contents, work: Path) -> str:
    """The first refusal, 'check: reason'; '' where it is accepted."""
    path = contents.write(work / "a.zip")
    verdict = verify(path)
    path.unlink()
    found = [f"{finding.check}: {finding.detail}" for finding in verdict.findings if finding.state == "refused"]
    assert verdict.accepted == (not found)
    return found[0] if found else ""
