"""From the folder of a run to a row of a board: submitted, accepted, in its place, and attacked by somebody else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.errors import AuditError, Unchecked
from audit.records import External, Submission
from leaderboards.acceptance import accept, kept
from leaderboards.archive import PICTURES, RECORD, SCORES, unpack
from leaderboards.board import boards, table
from leaderboards.checking import checked
from leaderboards.entries import add, load, place
from leaderboards.rendering import render
from leaderboards.submission import packed, submit
from leaderboards.verification import Opened, verify
from tests.conftest import Command, Outcome, tiny_options
from tests.leaderboards.hostile import TARGET, WHO, Contents

ROW = "class-leakage-v2/digits/privatesnn"


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


def test_an_archive_holds_the_pictures_of_its_defense_and_of_no_other(
    audited: tuple[Path, Outcome], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(audited[0], run)
    own = (run / "pictures" / "privatesnn.png").read_bytes()
    (run / "pictures" / "dc-cet.png").write_bytes(b"another")
    submit(run, WHO, tmp_path / "a.zip")
    _, contents = unpack(tmp_path / "a.zip")
    assert contents[PICTURES] == own
    assert {name for name in contents if name.endswith(".png")} == {PICTURES}
    (run / "pictures" / "privatesnn.png").unlink()
    submit(run, WHO, tmp_path / "b.zip")
    assert PICTURES not in unpack(tmp_path / "b.zip")[1]


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


def test_a_defense_of_ones_own_without_its_code_is_submitted_with_a_note(
    command: Command, tmp_path: Path, audited: tuple[Path, Outcome]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(audited[0], run)
    text = (run / RECORD).read_text().replace('"defense": "privatesnn"', '"defense": "mine"')
    (run / RECORD).write_text(text)
    (run / "targets/privatesnn-seed0.safetensors").rename(run / "targets/mine-seed0.safetensors")
    with np.load(run / SCORES) as stored:
        scores = {name.replace("/privatesnn", "/mine"): stored[name] for name in stored}
    (run / SCORES).write_bytes(packed(scores))
    done = command("submit", run, "--author", "A", "--licence", "MIT", "--out", tmp_path / "a.zip")
    assert done.code == 0, done.out + done.err
    assert "note     without --code-file nobody can run 'mine' again from the beginning" in done.out


def test_a_network_that_no_file_describes_is_not_submitted_and_the_line_says_why(
    audited: tuple[Path, Outcome], command: Command, tmp_path: Path
) -> None:
    whole = json.loads((audited[0] / RECORD).read_text())
    for result in whole["results"]:
        target = next(d for d in result["defenses"] if d["requested"])
        target["notes"]["cannot be submitted"] = "only here"
    run = tmp_path / "run"
    run.mkdir()
    (run / RECORD).write_text(json.dumps(whole))
    done = command("submit", run, "--author", "A", "--licence", "MIT", "--out", tmp_path / "a.zip")
    assert (done.code, "privatesnn cannot be submitted: only here" in done.err) == (2, True)
    assert not (tmp_path / "a.zip").exists()


def test_an_accepted_archive_becomes_a_row_with_what_was_found_beside_it(
    good: Contents, command: Command, tmp_path: Path
) -> None:
    path, root = good.write(tmp_path / "a.zip"), tmp_path / "records"
    done = command("verify", path, "--accept", root)
    assert (done.code, "verdict: accepted" in done.out) == (0, True), done.err
    name = f"{ROW}/{good.record.hash()}"
    ends = (".json", ".npz", ".png", "-seed0.safetensors", ".verified.json")
    assert set(tree(root)) == {f"{name}{end}" for end in ends}
    assert tree(root)[f"{name}.json"] == good.files[RECORD]
    assert tree(root)[f"{name}.npz"] == good.files[SCORES]
    before = tree(root)
    assert command("verify", path, "--accept", root).code == 0
    assert tree(root) == before
    (root / f"{name}-seed0.safetensors").unlink()  # as it came by a branch
    assert command("verify", path, "--accept", root).code == 0
    assert tree(root) == before


def test_a_row_that_is_accepted_after_a_further_rerun_says_so_and_stays_what_it_is(
    good: Contents, tmp_path: Path
) -> None:
    path, root = good.write(tmp_path / "a.zip"), tmp_path / "records"
    accept(verify(path), root)
    before = tree(root)
    entry = accept(verify(path, "attacks", again=lambda opened: "the same"), root)
    assert checked(entry) == "attacks"
    assert {name for name, content in tree(root).items() if before[name] != content} == {
        f"{ROW}/{good.record.hash()}.verified.json"
    }
    assert checked(accept(verify(path, "all", again=lambda opened: "the same"), root)) == "all"


def test_what_was_found_before_is_not_taken_back(good: Contents, command: Command, tmp_path: Path) -> None:
    path, root = good.write(tmp_path / "a.zip"), tmp_path / "records"
    accept(verify(path, "all", again=lambda opened: "the same"), root)
    before = tree(root)
    lower = verify(path, "attacks", again=lambda opened: "the same")
    assert kept(lower, root) == "the row was checked further before (all): this stays"
    assert checked(accept(lower, root)) == "all"
    without_data = verify(path, "all", again=lambda opened: "the same")
    without_data.findings[:] = [
        replace(f, state="not checked") if f.check == "data split" else f for f in without_data.findings
    ]
    accept(without_data, root)
    done = command("verify", path, "--accept", root)
    assert (done.code, "the row was checked further before (all): this stays" in done.out) == (0, True)
    assert tree(root) == before


def test_a_row_with_other_raw_scores_is_not_accepted_again(good: Contents, tmp_path: Path) -> None:
    path, root = good.write(tmp_path / "a.zip"), tmp_path / "records"
    entry = accept(verify(path), root)
    entry.scores.write_bytes(packed({name: rows.numpy() + 1 for name, rows in good.scores.items()}))
    before = tree(root)
    with pytest.raises(AuditError, match="is there already, and its raw scores are not those of the archive"):
        accept(verify(path, "all", again=lambda opened: "the same"), root)
    assert tree(root) == before


@pytest.mark.parametrize("name", ["conversion", "none"])
def test_what_protects_nothing_is_audited_together_with_the_undefended_network(
    name: str, tiny_store: Path, command: Command, tmp_path: Path
) -> None:
    options = tiny_options("defense.epochs", "defense.synth", attacks=["reconversion", "direct-inversion"])
    given = ("--attack", "paper-v1", "--store", tiny_store, *options)
    both = f"--defense {name},data-free-conversion"
    who = ("--author", "A", "--licence", "MIT", "--out", tmp_path / "a.zip")
    if name == "conversion":
        alone = command("--defense", name, "--out", tmp_path / "alone", *given)
        assert alone.code == 0, alone.err
        done = command("submit", tmp_path / "alone", *who)
        advice = f"audit {name} together with it: {both}, and submit with --defense {name}"
        assert (done.code, advice in " ".join(done.out.split())) == (2, True), done.out
    done = command(*both.split(), "--out", tmp_path / "both", *given)
    assert done.code == 0, done.err
    done = command("submit", tmp_path / "both", *who, "--defense", name)
    assert (done.code, "verdict: accepted" in done.out) == (0, True), done.out + done.err


def test_a_refused_archive_becomes_no_row(good: Contents, command: Command, tmp_path: Path) -> None:
    path = good.at(("results", 0, "defenses", 1, "flags"), ["masked-gradients"]).write(tmp_path / "a.zip")
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


def test_a_rerun_that_was_asked_for_and_could_not_be_is_no_rerun(good: Contents, tmp_path: Path) -> None:
    def cannot(opened: Opened) -> str:
        raise Unchecked("its code is not here")

    verdict = verify(good.write(tmp_path / "a.zip"), "all", again=cannot)
    assert verdict.accepted
    assert checked(accept(verdict, tmp_path / "records")) == "claimed"


def test_a_row_whose_images_were_not_compared_says_so(good: Contents, tmp_path: Path) -> None:
    verdict = verify(good.write(tmp_path / "a.zip"), "attacks", again=lambda opened: "the same")
    verdict.findings[:] = [replace(f, state="not checked") if f.check == "data split" else f for f in verdict.findings]
    assert checked(accept(verdict, tmp_path / "records")) == "attacks, data split not checked"


def test_a_row_that_nobody_else_checked_is_a_claim(good: Contents, tmp_path: Path) -> None:
    entry = add(good.record, good.files[SCORES], None, tmp_path)
    another = {"record": "0" * 64, "accepted": True, "rerun": "all"}
    refused = {"record": entry.hash, "accepted": False, "rerun": "all"}
    forged = {"record": entry.hash, "accepted": True, "rerun": "all", "findings": "x"}
    documents = (another, refused, forged)
    for content in (None, "", "[]", "{}", '"x"', '{"rerun": "all"}', *map(json.dumps, documents)):
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
        tmp_path / "class-leakage-v2" / "cifar10" / "privatesnn" / entry.path.name,
        tmp_path / "paper-v1" / "digits" / "privatesnn" / entry.path.name,
        tmp_path / "class-leakage-v2" / "digits" / "dc-cet" / entry.path.name,
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


def test_what_was_found_is_written_as_json(good: Contents, tmp_path: Path) -> None:
    found = json.loads(verify(good.write(tmp_path / "a.zip")).document("0" * 64))
    assert (found["record"], found["accepted"], found["rerun"]) == ("0" * 64, True, "claimed")
    assert {"check", "state", "detail"} == set(found["findings"][0])
