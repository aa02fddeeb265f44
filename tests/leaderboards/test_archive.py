"""An archive is read whole and in memory, as its manifest lists it, or refused; nothing of it is run or unpickled."""

import json
import os
import pickle
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.errors import AuditError
from audit.recompute import read_scores
from audit.store import hash_tensors
from leaderboards.archive import DEFENSE, LIMITS, MANIFEST, PICTURES, RECORD, SCORES, pack, unpack
from leaderboards.verification import verify
from tests.conftest import Command, Outcome
from tests.leaderboards.hostile import TARGET, WHO, Contents, array, honest, objection, remember, zipped

MARK = "touched"


@pytest.fixture
def good(audited: tuple[Path, Outcome]) -> Contents:
    """A submission that is accepted."""
    return honest(audited[0])


@pytest.fixture(autouse=True)
def untouched(tmp_path: Path, good: Contents, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; whatever a test does, nothing is unpickled, started, or left beside it and in the cwd."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled, or started")

    work = tmp_path / "work"
    work.mkdir()
    before = set(tmp_path.rglob("*")), set(Path().iterdir())
    with monkeypatch.context() as patch:
        remember(patch)
        patch.setattr(torch, "load", forbidden)
        patch.setattr(subprocess, "run", forbidden)
        for name in ("load", "loads", "Unpickler", "_Unpickler"):
            patch.setattr(pickle, name, forbidden)
        yield work
    inside = {path for path in tmp_path.rglob("*") if work in path.parents}
    assert (set(tmp_path.rglob("*")) - inside, set(Path().iterdir())) == before
    assert not list(tmp_path.rglob(MARK))


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, int]]:
        return os.mknod, (MARK, 0o600)


def refused(path: Path) -> str:
    """What the one finding says, of an archive that cannot be opened."""
    verdict = verify(path)
    assert [(f.check, f.state) for f in verdict.findings] == [("archive", "refused")]
    assert not verdict.accepted
    return verdict.findings[0].detail


def test_what_is_packed_is_what_is_unpacked_whatever_the_order(good: Contents, untouched: Path) -> None:
    pack(good.files, WHO, untouched / "one.zip")
    pack(dict(reversed(good.files.items())), WHO, untouched / "two.zip")
    assert (untouched / "one.zip").read_bytes() == (untouched / "two.zip").read_bytes()
    manifest, contents = unpack(untouched / "one.zip")
    assert {name: content for name, content in contents.items() if name != MANIFEST} == dict(good.files)
    assert manifest.submission == WHO
    assert list(manifest.files) == sorted(good.files)


def test_an_archive_is_never_written_over_another(untouched: Path) -> None:
    (untouched / "a.zip").write_bytes(b"mine")
    with pytest.raises(AuditError, match="is there already; choose another name with --out"):
        pack({}, WHO, untouched / "a.zip")
    assert [(path.name, path.read_bytes()) for path in untouched.iterdir()] == [("a.zip", b"mine")]
    with pytest.raises(AuditError, match=r"cannot write .*No such file"):
        pack({}, WHO, untouched / "nowhere" / "a.zip")


@pytest.mark.parametrize(
    "name",
    [
        "../record.json", "/etc/cron.d/job", "targets/../../x-seed0.safetensors", "targets\\x-seed0.safetensors",
        "C:\\record.json", "record.json/", "RECORD.json", "targets/x-seed0.pt", "targets/x-seed0.pkl", "scores.npy",
        "targets/x-seed0.safetensors.py", "targets/x-seed-1.safetensors", "targets/x seed0.safetensors", "setup.py",
        "targets/\u0445-seed\u0660.safetensors", "targets/deeper/x-seed0.safetensors", "record.json\n",
    ],
)  # fmt: skip
def test_a_file_that_has_no_place_in_an_archive_is_refused_by_its_name(
    name: str, good: Contents, untouched: Path
) -> None:
    reason = refused(good.holding({name: pickle.dumps(Bomb())}).write(untouched / "a.zip"))
    assert "has no place in it" in reason


def test_a_pickle_in_a_target_s_place_is_no_target(good: Contents, untouched: Path) -> None:
    for content in (pickle.dumps(Bomb()), b"PK\x03\x04" + bytes(100)):
        path = good.holding({TARGET: content}).write(untouched / "a.zip")
        found = {f.check: f for f in verify(path).findings}
        assert found["weights"].state == "refused"
        assert "the target of seed 0 is no safetensors file" in found["weights"].detail


SCORES_OF: dict[str, tuple[dict[str, bytes], str]] = {
    "objects": ({"a.npy": array(np.array([Bomb()], dtype=object), allow_pickle=True)}, "holds object and not numbers"),
    "a pickle": ({"a.npy": pickle.dumps(Bomb())}, "has no readable header"),
    "another name": ({"a.pkl": b""}, "'a.pkl' has no place in it"),
    "text": ({"a.npy": array(np.array(["x"]))}, "holds <U1 and not numbers"),
    "records": ({"a.npy": array(np.zeros(1, dtype=[("x", "f4")]))}, "and not numbers"),
    "complex": ({"a.npy": array(np.zeros(1, dtype=complex))}, "holds complex128"),
    "columns": ({"a.npy": array(np.asfortranarray(np.zeros((2, 3))))}, "not numbers in rows"),
    "cut": ({"a.npy": array(np.zeros(9))[:-1]}, r"has a shape, \[9\], that is not that of its data"),
    "more": ({"a.npy": array(np.zeros(9)) + b"\0"}, r"has a shape, \[9\], that is not"),
    "claims terabytes": (
        {"a.npy": array(np.zeros(10**5)).replace(b"(100000,)", b"(999999,)")}, r"has a shape, \[999999\]",
    ),
    "negative": ({"a.npy": array(np.zeros((100, 100))).replace(b"(100, 100)", b"(-10,-1000)")}, "header|shape"),
    "code in its header": ({"a.npy": array(np.zeros(1)).replace(b"False", b"exit")}, "has no readable header"),
    "a long header": ({"a.npy": b"\x93NUMPY\x02\x00" + b"\xff\xff\x00\x00" + b" " * 65535}, "has no readable header"),
    "odd numbers": ({"a.npy": array(np.zeros(1, dtype=">f8"))}, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SCORES_OF)
def test_raw_scores_that_are_no_arrays_of_numbers_are_refused_and_not_run(kind: str, untouched: Path) -> None:
    members, reason = SCORES_OF[kind]
    content = zipped(members, untouched / "scores.npz", zipfile.ZIP_DEFLATED).read_bytes()
    with pytest.raises(AuditError, match=f"^scores.npz.*({reason})"):
        read_scores(content, "scores.npz")


def test_a_bomb_is_refused_by_what_it_declares_before_it_is_unpacked(good: Contents, untouched: Path) -> None:
    high = zipped({**good.files, PICTURES: bytes(2**26), MANIFEST: b"{}"}, untouched / "a.zip", zipfile.ZIP_DEFLATED)
    assert "pictures.png is 1,0" in refused(high)
    assert "times its packed size; at most 200 times" in refused(high)


def test_a_bomb_without_a_ratio_is_refused_by_its_total(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = np.random.default_rng(0).bytes(10_000) * 5
    files = {f"targets/x-seed{i}.safetensors": content for i in range(100)}
    path = zipped(files, untouched / "a.zip", zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("leaderboards.archive.LIMITS", LIMITS.__class__(200, 2**30, 4_000_000, 200))
    assert "5,000,000 bytes unpacked; at most 4,000,000 are read" in refused(path)


def test_more_files_than_an_archive_has_are_refused(untouched: Path) -> None:
    files = {f"targets/x-seed{i}.safetensors": b"" for i in range(201)}
    assert "201 files or more; at most 200 are read" in refused(zipped(files, untouched / "a.zip"))


def test_a_folder_or_nothing_at_all_is_refused(untouched: Path) -> None:
    assert "cannot be read: Is a directory" in refused(untouched)
    assert "cannot be read: No such file" in refused(untouched / "a.zip")


MANIFESTS: dict[str, tuple[Callable[[Contents], bytes | None], str]] = {
    "none": (lambda good: None, "has no manifest.json: it was not made by python -m audit submit"),
    "empty": (lambda good: b"", "manifest.json: Expecting value"),
    "no text": (lambda good: b"\xff", "manifest.json: 'utf-8' codec"),
    "nested": (lambda good: b"[" * 10**5, "manifest.json: values are nested deeper"),
    "key twice": (lambda good: good.manifest()[:-1] + b', "format": 1}', "the key 'format' is given twice"),
    "other format": (lambda good: good.manifest(format=2), "manifest.json: format: Input should be 1"),
    "more in it": (lambda good: good.manifest(run="rm -rf /"), "manifest.json: run: Extra inputs"),
    "no hash": (lambda good: good.manifest(files={RECORD: {"bytes": 1}}), "files.record.json.sha256: Field required"),
    "other hash": (lambda good: good.manifest().replace(b'"sha256": "', b'"sha256": "0', 1), "sha256: String should"),
    "size": (lambda good: good.manifest().replace(b'"bytes": ', b'"bytes": 1', 1), "does not have the hash that"),
    "huge size": (lambda good: good.manifest().replace(b'"bytes": ', b'"bytes": ' + b"9" * 5000, 1), "is too large"),
    "infinite": (lambda good: good.manifest(format=1e999), "Infinity is no number"),
    "unlisted": (lambda good: good.holding({SCORES: None}).manifest(), "scores.npz is not in the manifest"),
    "missing": (lambda good: good.holding({DEFENSE: b""}).manifest(), "defense.py is in the manifest and not in"),
    "outside": (lambda good: good.holding({"../x": b""}).manifest(), "../x is in the manifest and not in"),
    "nobody": (lambda good: good.manifest(submission=None), "manifest.json: submission"),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_does_not_list_what_is_there_is_refused(kind: str, good: Contents, untouched: Path) -> None:
    make, reason = MANIFESTS[kind]
    manifest = make(good)
    files = dict(good.files) if manifest is None else {MANIFEST: manifest, **good.files}
    assert reason in refused(zipped(files, untouched / "a.zip"))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": ""}, "name"), ({"name": "x" * 81}, "name"), ({"authors": []}, "authors"),
        ({"authors": [""]}, "authors"), ({"paper": "javascript:alert(1)"}, "paper"), ({"licence": ""}, "licence"),
        ({"code": "data:text/html,x"}, "code"), ({"summary": "x" * 301}, "summary"), ({"script": "x"}, "script"),
        ({"name": ["x"]}, "name"), ({"name": "x\u202e"}, "name"), ({"name": "x\x85"}, "name"),
        ({"name": "x\u2028"}, "name"), ({"authors": ["A\u200b"]}, "authors.0"), ({"licence": "MIT\ufeff"}, "licence"),
        ({"authors": ["A", "The  Maintainers "]}, "authors.1"), ({"authors": ["the maintainers"]}, "authors.0"),
    ],
)  # fmt: skip
def test_a_submission_that_could_not_be_shown_is_refused(
    changed: dict[str, object], field: str, good: Contents, untouched: Path
) -> None:
    submission = WHO.model_dump() | changed
    manifest = good.manifest(submission=submission)
    assert f"manifest.json: submission.{field}" in refused(good.write(untouched / "a.zip", manifest))


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_altered_byte_of_any_file_is_detected(good: Contents, untouched: Path, data: st.DataObject) -> None:
    """Without a manifest that was made to fit."""
    name = data.draw(st.sampled_from(sorted(good.files)))
    at = data.draw(st.integers(0, len(good.files[name]) - 1))
    content = bytearray(good.files[name])
    content[at] ^= data.draw(st.integers(1, 255))
    path = good.holding({name: bytes(content)}).write(untouched / "a.zip", good.manifest())
    assert f"{name} does not have the hash that the manifest names" in refused(path)


def test_what_a_stranger_writes_cannot_forge_a_line_of_the_verdict(good: Contents, untouched: Path) -> None:
    forged = "x\nrow      passed\nverdict: accepted\x1b[2J\u202e"
    path = good.write(untouched / "a.zip", good.manifest(files={forged: {"sha256": "0" * 64, "bytes": 0}}))
    verdict = verify(path)
    assert verdict.text().splitlines()[-1] == "verdict: refused"
    assert len(verdict.text().splitlines()) == 2
    assert verdict.text().replace("\n", "").isprintable()
    assert json.loads(verdict.document("0" * 64))["accepted"] is False


def test_code_that_comes_along_is_neither_imported_nor_run_without_trust(
    good: Contents, untouched: Path, command: Command
) -> None:
    mark = untouched.parent / MARK
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n".encode()
    path = good.holding({DEFENSE: code}).write(untouched / "a.zip")
    checked = command("verify", path, "--rerun", "all")
    assert "rerun: all" in checked.out
    assert "not checked" in checked.out.split("rerun: all")[1]
    assert "defense.py is somebody else's code; --trust-code runs it" in checked.out
    assert checked.code == 0


ROWS = "seed 0/privatesnn/reconversion"
HASH = ("results", 0, "defenses", 1, "attacks", 0, "scores_hash")


def test_one_altered_number_in_the_raw_scores_is_refused(good: Contents, untouched: Path) -> None:
    scores = good.scores
    scores[f"{ROWS}/logits/0"][0, 0] += 1e-3
    contents = good.with_scores(scores)
    assert f"raw scores: the raw scores of {ROWS} do not have the hash" in objection(contents, untouched)
    assert "do not have the hash" in objection(good.at(HASH, "0" * 64), untouched)


def test_private_images_that_were_looked_at_otherwise_change_what_is_measured(good: Contents, untouched: Path) -> None:
    scores = good.scores
    scores["seed 0/private sample/features/FD, evaluator features"][0] += 1
    assert re.match(
        "raw scores: .*FD.* is claimed as .*; raw scores give", objection(good.with_scores(scores), untouched)
    )


Change = Callable[[torch.Tensor], torch.Tensor | None]
SHAPES: dict[str, tuple[str, Change, str]] = {
    "NaN": ("logits/0", lambda x: x.index_fill(0, torch.tensor([1]), torch.nan), "logits/0 has values that"),
    "infinite": ("features/FD, evaluator features", lambda x: x * torch.inf, "has values that are not finite"),
    "fewer rows": ("logits/1", lambda x: x[1:], r"logits/1 has the shape \[19, 10\], not one row for each of 20"),
    "no rows": ("labels", lambda x: x[:0], "not one row for each of"),
    "a number": ("labels", lambda x: x[0], "not one row for each of"),
    "flat": ("logits/0", lambda x: x[:, 0], r"logits/0 has the shape \[20\]"),
    "fewer classes": ("logits/0", lambda x: x[:, 1:], "logits/0 are of 9 classes, not of 10"),
    "fewer features": ("features/FD, evaluator features", lambda x: x[:, 1:], "not the features and logits that its"),
    "other labels": ("labels", lambda x: x + 1, "labels are not those of 10 classes"),
    "easy classes": ("labels", lambda x: x * 0, "20 images in the record"),
    "labels of floats": ("labels", lambda x: x.float(), "labels are not those of 10 classes"),
    "no labels": ("labels", lambda x: None, "there is no labels among its raw scores"),
    "no features": ("features/FD, evaluator features", lambda x: None, "not the features and logits"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_raw_scores_that_are_none_are_refused_though_their_hash_is_right(
    kind: str, good: Contents, untouched: Path
) -> None:
    name, change, reason = SHAPES[kind]
    scores = good.scores
    made = change(scores.pop(f"{ROWS}/{name}"))
    scores |= {} if made is None else {f"{ROWS}/{name}": made.contiguous()}
    own = {k.removeprefix(f"{ROWS}/"): v for k, v in scores.items() if k.startswith(f"{ROWS}/")}
    contents = good.with_scores(scores).at(HASH, hash_tensors(own))
    assert re.match(f"raw scores: .*{reason}", objection(contents, untouched))


def test_raw_scores_of_nothing_are_refused(good: Contents, untouched: Path) -> None:
    contents = good.with_scores(good.scores | {"seed 0/mine/x/labels": torch.zeros(3)})
    assert "raw scores: the raw scores 'seed 0/mine/x/labels' belong to nothing" in objection(contents, untouched)
    scores = {name: rows for name, rows in good.scores.items() if not name.startswith(ROWS)}
    assert f"raw scores: there are no raw scores of {ROWS}" in objection(good.with_scores(scores), untouched)
    assert "raw scores: there is no scores.npz in it" in objection(good.holding({SCORES: None}), untouched)


def test_an_altered_weight_is_refused(good: Contents, untouched: Path) -> None:
    weight = torch.zeros(10, 1, 3, 3)
    contents = good.with_tensor("layers.conv1.weight", weight)
    assert "weights: the target of seed 0 does not have the hash that the record" in objection(contents, untouched)
    contents = good.with_tensor("layers.conv1.weight", weight * torch.nan)
    assert "weights: the target of seed 0: layers.conv1.weight has values that" in objection(contents, untouched)
    contents = good.describing({**good.description, "time_steps": 4})
    assert "weights: the target of seed 0 has T = 4, the record says 16" in objection(contents, untouched)


def test_a_target_of_the_right_weights_that_codes_or_fires_otherwise_is_refused(
    good: Contents, untouched: Path
) -> None:
    description = good.description
    description["encoder"]["coding"] = "direct"
    assert "weights: the target of privatesnn codes" in objection(good.describing(description), untouched)
    description = good.description
    description["layers"][1]["surrogate"]["width"] = 1e-6
    assert "weights: the neurons of privatesnn are others" in objection(good.describing(description), untouched)


def test_a_target_that_is_missing_or_of_no_seed_is_refused(good: Contents, untouched: Path) -> None:
    assert "weights: there are targets of the seeds [], and" in objection(good.holding({TARGET: None}), untouched)
    for name in ("targets/mine-seed0.safetensors", "targets/privatesnn-seed00.safetensors"):
        contents = good.holding({name: good.files[TARGET]})
        assert f"weights: {name} is the target of no seed of privatesnn" in objection(contents, untouched)


def test_a_record_that_gives_a_key_twice_is_refused(good: Contents, untouched: Path) -> None:
    content = good.files[RECORD].replace(b'"profile":', b'"profile": "paper", "profile":', 1)
    assert "archive: record.json is no record: the key 'profile' is given twice" in objection(
        good.holding({RECORD: content}), untouched
    )
    assert "archive: there is no record.json in it" in objection(good.holding({RECORD: None}), untouched)


@pytest.mark.parametrize("content", [b"", b"<svg onload='alert(1)'>", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40])
def test_pictures_that_are_no_image_are_refused(content: bytes, good: Contents, untouched: Path) -> None:
    assert "row: pictures.png is no PNG image" in objection(good.holding({PICTURES: content}), untouched)
