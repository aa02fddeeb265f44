"""From the folder of a run to a row of a board: submitted, accepted, in its place, and attacked by somebody else."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.errors import AuditError
from audit.records import External, Record, Submission
from leaderboards.acceptance import accept
from leaderboards.archive import RECORD, SCORES, unpack
from leaderboards.board import boards, table
from leaderboards.entries import Entry, add, load, place
from leaderboards.rendering import render
from leaderboards.rerun import Machine, compare, rerun_attacks
from leaderboards.submission import submit
from leaderboards.verification import Opened, verify
from tests.conftest import Command, Outcome
from tests.leaderboards.hostile import TARGET, WHO, Contents, honest, measured, objection, put, remember

ROW = "class-leakage-v1/digits/privatesnn"


@pytest.fixture
def good(audited: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch) -> Contents:
    """A submission that is accepted."""
    remember(monkeypatch)
    return honest(audited[0])


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_run_becomes_an_archive_that_is_accepted_and_the_same_run_the_same_bytes(
    audited: tuple[Path, Outcome], command: Command, tmp_path: Path
) -> None:
    before = tree(audited[0])
    for name in ("one.zip", "two.zip"):
        done = command("submit", audited[0], "--author", "A", "--licence", "MIT", "--out", tmp_path / name)
        assert done.code == 0, done.err
        assert "verdict: accepted" in done.out
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert tree(audited[0]) == before
    assert command("submit", audited[0], "--author", "A", "--licence", "MIT", "--out", tmp_path / "one.zip").code != 0


def test_a_row_holds_its_defense_and_the_undefended_network_and_their_raw_scores(good: Contents) -> None:
    result = good.record.results[0]
    assert [(d.defense, d.requested) for d in result.defenses] == [
        ("data-free-conversion", False),
        ("privatesnn", True),
    ]
    targets = {name.split("/")[1] for name in good.scores}
    assert not [target for target in targets if "dc-cet" in target]
    assert {"privatesnn (untrained)", "data-free-conversion (untrained)", "private sample"} < targets


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--paper", "javascript:alert(1)"), "--paper: string should match"),
        (("--name", "x" * 81), "--name: string should have at most 80"),
        (("--defense", "dc-cut"), "seed 0 has no result of dc-cut"),
        (("--external", "0" * 63), "is not the hash of a row"),
        (("--code-file", "nowhere.py"), "cannot read nowhere.py: No such file"),
    ],
)
def test_a_submission_that_cannot_be_made_says_why_and_leaves_no_archive(
    options: tuple[str, str], message: str, audited: tuple[Path, Outcome], command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "a.zip"
    done = command("submit", audited[0], "--author", "A", "--licence", "MIT", "--out", out, *options)
    assert done.code != 0
    assert message in " ".join(done.err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lost_a_target_or_its_raw_scores_is_not_submitted(
    audited: tuple[Path, Outcome], tmp_path: Path
) -> None:
    for lost in (SCORES, TARGET):
        run = tmp_path / lost.partition("/")[0]
        shutil.copytree(audited[0], run)
        (run / lost).unlink()
        with pytest.raises(AuditError, match=f"cannot read .*{lost}"):
            submit(run, WHO, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_an_accepted_archive_becomes_a_row_with_what_was_found_beside_it(
    good: Contents, command: Command, tmp_path: Path
) -> None:
    path, root = good.write(tmp_path / "a.zip"), tmp_path / "records"
    done = command("verify", path, "--accept", root)
    assert (done.code, "verdict: accepted" in done.out) == (0, True), done.err
    name = f"{ROW}/{good.record.hash()}"
    assert set(tree(root)) == {f"{name}{end}" for end in (".json", ".npz", ".png", ".verified.json")}
    assert tree(root)[f"{name}.json"] == good.files[RECORD]
    assert tree(root)[f"{name}.npz"] == good.files[SCORES]
    before = tree(root)
    assert command("verify", path, "--accept", root).code != 0
    assert tree(root) == before


def test_a_refused_archive_becomes_no_row(good: Contents, command: Command, tmp_path: Path) -> None:
    path = good.at(("results", 0, "defenses", 1, "flags"), []).write(tmp_path / "a.zip")
    done = command("verify", path, "--accept", tmp_path / "records")
    assert (done.code, "verdict: refused" in done.out) == (1, True)
    with pytest.raises(AuditError, match="only an archive that was accepted"):
        accept(verify(path), tmp_path / "records")
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize(("rerun", "shown"), [("none", "claimed"), ("attacks", "attacks"), ("all", "all")])
def test_the_board_says_how_far_a_row_was_checked(rerun: Any, shown: str, good: Contents, tmp_path: Path) -> None:
    path = good.write(tmp_path / "a.zip")
    verdict = verify(path, rerun, again=lambda opened: "the same")
    accept(verdict, tmp_path / "records")
    assert [row.checked for board in boards(load(tmp_path / "records")) for row in board.rows] == [shown]


def test_a_row_that_nobody_else_checked_is_a_claim(good: Contents, tmp_path: Path) -> None:
    entry = add(good.record, good.files[SCORES], None, tmp_path)
    another = {"record": "0" * 64, "accepted": True, "rerun": "all"}
    refused = {"record": entry.hash, "accepted": False, "rerun": "all"}
    for content in (None, "", "[]", "{}", '"x"', '{"rerun": "all"}', json.dumps(another), json.dumps(refused)):
        if content is not None:
            entry.verification.write_text(content, encoding="utf-8")
        assert boards(load(tmp_path))[0].rows[0].checked == "claimed"


def test_a_row_is_never_written_over_another(good: Contents, tmp_path: Path) -> None:
    add(good.record, b"first", None, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(AuditError, match="is there already: this very record has its row"):
        add(good.record, b"second", b"picture", tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("field", "value"), [("dataset", "../../../out"), ("dataset", "/out"), ("defense", "../out"), ("defense", "a/b")]
)
def test_a_name_never_leads_out_of_the_folder_of_the_rows(
    field: str, value: str, good: Contents, tmp_path: Path
) -> None:
    there = ("dataset", "name") if field == "dataset" else ("results", 0, "defenses", 1, "defense")
    record = good.at(there, value).record
    with pytest.raises(AuditError, match="there is no place for a row with the name"):
        add(record, b"", None, tmp_path / "a" / "b")
    with pytest.raises(AuditError, match="there is no place for a row with the name"):
        place(record.model_copy(update={"external": External(about="0" * 64)}))
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_does_not_lie_where_its_content_belongs_is_refused(good: Contents, tmp_path: Path) -> None:
    entry = add(good.record, good.files[SCORES], None, tmp_path)
    assert [e.hash for e in load(tmp_path)] == [good.record.hash()]
    text = entry.path.read_text(encoding="utf-8")
    for moved in (
        entry.path.with_name("0" * 64 + ".json"),
        tmp_path / "class-leakage-v1" / "cifar10" / "privatesnn" / entry.path.name,
        tmp_path / "paper-v1" / "digits" / "privatesnn" / entry.path.name,
        tmp_path / "class-leakage-v1" / "digits" / "dc-cet" / entry.path.name,
    ):
        moved.parent.mkdir(parents=True, exist_ok=True)
        moved.write_text(text, encoding="utf-8")
        with pytest.raises(AuditError, match="does not say what its place says"):
            load(tmp_path)
        moved.unlink()
    entry.path.write_text(text.replace('"profile": "smoke"', '"profile": "small"'), encoding="utf-8")
    with pytest.raises(AuditError, match="does not say what its place says"):
        load(tmp_path)


def test_a_script_in_a_name_is_shown_as_text(good: Contents, tmp_path: Path) -> None:
    who = Submission(name="<script>alert(1)</script>", authors=("<img src=x onerror=alert(1)>",), licence="MIT")
    contents = replace(good, submission=who).at(("submission",), who.model_dump())
    path = contents.write(tmp_path / "a.zip")
    accept(verify(path), tmp_path / "records")
    page = render(table(boards(load(tmp_path / "records"))[0]), "html")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img" not in page


def stronger(good: Contents, about: str) -> Contents:
    """Somebody else's attack on the same target, which sees it as clearly as real images."""
    name = "seed 0/privatesnn/reconversion/features/FD, evaluator features"
    scores = good.scores
    nearest = scores["seed 0/real images, 2 per class/features/FD, evaluator features"]
    scores[name] = nearest + 0.01 * torch.randn(nearest.shape, generator=torch.Generator().manual_seed(1))
    record = measured(good.record, scores)
    who = Submission(name="A better reconversion", authors=("C. Breaker",), licence="MIT")
    record = record.model_copy(update={"submission": who, "external": External(about=about)})
    return replace(good.with_scores(scores).claiming(record), submission=who)


def external_board(good: Contents, other: Contents, root: Path) -> tuple[Entry, Any]:
    path = good.write(root / "a.zip")
    row = accept(verify(path), root / "records")
    path = other.write(root / "b.zip")
    verdict = verify(path)
    assert verdict.accepted, verdict.text()
    entry = accept(verdict, root / "records")
    [board] = boards(load(root / "records"))
    [shown] = board.rows
    assert shown.entry.hash == row.hash
    return entry, shown


def test_a_stronger_attack_by_a_third_party_becomes_the_headline(good: Contents, tmp_path: Path) -> None:
    about = good.record.hash()
    entry, row = external_board(good, stronger(good, about), tmp_path)
    assert entry.path.relative_to(tmp_path / "records").parts[:3] == ("external", "digits", about)
    assert row.leakage.value > row.claimed.value + 0.1
    assert row.worst == f"reconversion, by C. Breaker ({entry.hash[:8]})"
    assert [e.hash for e in row.externals] == [entry.hash]


def test_an_attack_on_other_weights_changes_no_headline(good: Contents, tmp_path: Path) -> None:
    document = stronger(good, good.record.hash()).document
    document = put(document, ("results", 0, "defenses", 1, "target_hash"), "0" * 64)
    record = Record.model_validate(document)
    path = good.write(tmp_path / "a.zip")
    accept(verify(path), tmp_path / "records")
    add(record, b"", None, tmp_path / "records")
    [row] = boards(load(tmp_path / "records"))[0].rows
    assert (row.leakage, row.worst) == (row.claimed, boards(load(tmp_path / "records"))[0].rows[0].worst)
    assert "Breaker" not in row.worst


def test_an_external_result_is_checked_like_a_row(good: Contents, tmp_path: Path) -> None:
    other = stronger(good, good.record.hash())
    value = ("results", 0, "defenses", 1, "attacks", 0, "measurements", 0, "value")
    assert "FD" in objection(other.at(value, 0.5), tmp_path)
    assert "archive: record.json is no record" in objection(other.at(("external", "about"), "../x"), tmp_path)


def opened(good: Contents, tmp_path: Path) -> Opened:
    manifest, contents = unpack(good.write(tmp_path / "a.zip"))
    return Opened(manifest, contents, good.record)


def test_a_rerun_that_gives_the_same_numbers_has_no_differences(good: Contents) -> None:
    said = compare(good.record, good.record, "privatesnn")
    assert said.startswith("largest differences: accuracy 0.000 (of 0.02), leakage of an attack 0.000")


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("accuracy", "value"), 0.9, "seed 0, privatesnn: accuracy is 0.483 in the record and 0.900 here; 0.02 is"),
        (("attacks", 0, "leakage", "value"), 0.99, "reconversion: leakage is 0.842 in the record and 0.990 here"),
        (("attacks", 0, "status"), "failed", "reconversion is 'ok' in the record, 'failed' here"),
        (("attacks", 0, "attack"), "mine", "reconversion is 'ok' in the record, 'absent' here"),
        (("attacks", 0, "leakage", "value"), None, "leakage is 0.842 in the record and without a value here"),
        (("attacks", 11, "measurements", 1, "value"), 0.1, "membership-inference: AUC, .* is 0.5.. in the record"),
    ],
)
def test_a_rerun_that_gives_other_numbers_names_the_first(
    path: tuple[Any, ...], value: Any, reason: str, good: Contents
) -> None:
    again = good.at(("results", 0, "defenses", 1, *path), value).record
    with pytest.raises(AuditError, match=reason):
        compare(good.record, again, "privatesnn")


def test_a_rerun_takes_no_value_of_a_stranger_for_an_option_and_reads_no_file_that_he_names(
    good: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(command)
        return subprocess.CompletedProcess(command, 2, "", "no such option\n")

    monkeypatch.setattr(subprocess, "run", run)
    passed = {**good.record.settings_passed, "measure.inception_weights": "/etc/passwd", "data.mirror": "--out=/"}
    strange = opened(good, tmp_path)
    record = strange.record.model_copy(update={"settings_passed": passed})
    with pytest.raises(AuditError, match="the re-run ended with exit code 2: no such option"):
        rerun_attacks(Machine(None))(replace(strange, record=record))
    [words] = called
    assert words[1:3] == ["-m", "audit"]
    assert all(word.startswith("--") for word in words[3:])
    assert "--set=data.mirror=--out=/" in words
    assert not [word for word in words if "passwd" in word]
    assert "--defense=checkpoint" in words


def test_what_was_found_is_written_as_json(good: Contents, tmp_path: Path) -> None:
    found = json.loads(verify(good.write(tmp_path / "a.zip")).document("0" * 64))
    assert (found["record"], found["accepted"], found["rerun"]) == ("0" * 64, True, "claimed")
    assert {"check", "state", "detail"} == set(found["findings"][0])
