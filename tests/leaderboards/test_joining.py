"""Rows of several runs are one table where nothing but the defenses differs."""

from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.records import Record
from leaderboards.entries import joined, row
from leaderboards.paper.runs import Run, read
from leaderboards.readme import Source, block
from tests.records_factory import record


def of_another_run(name: str, **changed: object) -> Record:
    other = row(record(), name)
    return other.model_copy(update={"command": f"python -m audit --defense {name}", "created": "later", **changed})


def test_the_rows_of_a_run_are_that_run() -> None:
    whole = record()
    names = [defense.defense for defense in whole.results[0].defenses]
    (again,) = joined([row(whole, name) for name in names], "here")
    assert sorted(d.defense for d in again.results[0].defenses) == sorted(names)
    assert again.command == whole.command


def test_rows_of_two_runs_stand_under_both_commands() -> None:
    first, second = row(record(), "privatesnn"), of_another_run("conversion")
    (both,) = joined([first, second], "here")
    assert {"privatesnn", "conversion"} <= {d.defense for d in both.results[0].defenses}
    text = block(Source([[Run(both)]]), "somewhere", ["accuracy"])
    assert f"```sh\n{first.command}\n{second.command}\n```" in text


def test_where_code_differs_each_command_says_which_it_was() -> None:
    first, other = row(record(), "privatesnn"), of_another_run("conversion")
    environment = first.environment.model_copy(update={"git_revision": "0123456789ab"})
    (both,) = joined([first, other.model_copy(update={"environment": environment})], "here")
    lines = both.command.splitlines()
    result = first.results[0]
    origin = f"teacher {result.teacher.hash[:8]}, evaluator {result.evaluator.hash[:8]}"
    assert lines[1] == f"{other.command}  # revision 0123456789ab, {origin}"
    assert lines[0].startswith(f"{first.command}  # ")


def test_rows_of_another_teacher_are_a_record_of_their_own_and_have_tables_of_their_own() -> None:
    """A drop against the teacher is one against its own."""
    rows = [row(record(), "privatesnn"), of_another_run("conversion"), of_another_run("dc-cet")]
    changed = []
    for stranger in rows[1:]:
        (result,) = stranger.results
        other = result.model_copy(update={"teacher": result.teacher.model_copy(update={"hash": "1" * 64})})
        changed.append(stranger.model_copy(update={"results": (other,)}))
    two, one = joined([rows[0], *changed], "here")
    assert {"conversion", "dc-cet"} <= {d.defense for d in two.results[0].defenses}
    assert two.results[0].teacher.hash == "1" * 64
    assert one.results[0].teacher.hash == rows[0].results[0].teacher.hash
    assert "teacher 11111111" in two.command
    text = block(Source([[Run(two)], [Run(one)]]), "somewhere", ["accuracy"])
    assert text.count("**Test accuracy") == 2
    assert text.index("teacher 11111111") < text.index("**Test accuracy") < text.index(f"{rows[0].command} # ")


def test_rows_of_more_seeds_come_first_and_may_be_of_the_same_defenses() -> None:
    rows = [row(record(), "privatesnn"), of_another_run("conversion")]
    (first,) = rows[0].results
    second = first.model_copy(update={"seed": 1, "teacher": first.teacher.model_copy(update={"hash": "1" * 64})})
    longer = of_another_run("privatesnn", results=(first, second))
    three = joined([*rows, longer], "here")
    assert [[result.seed for result in one.results] for one in three] == [[0, 1], [0]]
    assert [len(one.command.splitlines()) for one in three] == [1, 2]


def test_a_table_has_the_pictures_of_its_own_rows(tmp_path: Path) -> None:
    one = row(record(), "privatesnn")
    (first,) = one.results
    second = first.model_copy(update={"seed": 1, "teacher": first.teacher.model_copy(update={"hash": "1" * 64})})
    both = one.model_copy(update={"results": (first, second)})
    for each, name in ((one, "of one"), (both, "of both")):
        folder = tmp_path / "privatesnn"
        folder.mkdir(exist_ok=True)
        (folder / f"{each.hash()}.json").write_text(each.text())
        (folder / f"{each.hash()}.png").write_text(name)
    shown = [Path(run.pictures["privatesnn"]).read_text() for run in read(tmp_path)]
    assert shown == ["of both", "of one"]


def test_rows_that_differ_otherwise_are_refused_by_what_differs() -> None:
    first = row(record(), "privatesnn")
    with pytest.raises(AuditError, match="differ in settings, suites"):
        joined([first, of_another_run("conversion", profile="small", suites=("paper-v1",))], "here")
    with pytest.raises(AuditError, match="here has several rows of 'privatesnn'"):
        joined([first, of_another_run("privatesnn")], "here")
