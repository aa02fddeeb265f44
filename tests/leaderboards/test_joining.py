"""Rows of several runs are one table where nothing but the defenses differs."""

import pytest

from audit.errors import AuditError
from audit.records import Record
from leaderboards.entries import joined, row
from leaderboards.readme import Source, block
from tests.records_factory import record


def of_another_run(name: str, **changed: object) -> Record:
    other = row(record(), name)
    return other.model_copy(update={"command": f"python -m audit --defense {name}", "created": "later", **changed})


def test_the_rows_of_a_run_are_that_run() -> None:
    whole = record()
    names = [defense.defense for defense in whole.results[0].defenses]
    again = joined([row(whole, name) for name in names], "here")
    assert sorted(d.defense for d in again.results[0].defenses) == sorted(names)
    assert again.command == whole.command


def test_rows_of_two_runs_stand_under_both_commands() -> None:
    first, second = row(record(), "privatesnn"), of_another_run("conversion")
    both = joined([first, second], "here")
    assert {"privatesnn", "conversion"} <= {d.defense for d in both.results[0].defenses}
    text = block(Source((both,)), "somewhere", ["accuracy"])
    assert f"```sh\n{first.command}\n{second.command}\n```" in text


def test_where_code_or_teachers_differ_each_command_says_which_it_was() -> None:
    first, stranger = row(record(), "privatesnn"), of_another_run("conversion")
    environment = first.environment.model_copy(update={"git_revision": "0123456789ab"})
    (result,) = stranger.results
    changed = result.model_copy(update={"teacher": result.teacher.model_copy(update={"hash": "1" * 64})})
    other = stranger.model_copy(update={"environment": environment, "results": (changed,)})
    lines = joined([first, other], "here").command.splitlines()
    assert (
        lines[1] == f"{other.command}  # revision 0123456789ab, teacher 11111111, evaluator {result.evaluator.hash[:8]}"
    )
    assert lines[0].startswith(f"{first.command}  # ")
    assert "11111111" not in lines[0]


def test_rows_that_differ_otherwise_are_refused_by_what_differs() -> None:
    first = row(record(), "privatesnn")
    with pytest.raises(AuditError, match="differ in settings, suites"):
        joined([first, of_another_run("conversion", profile="small", suites=("paper-v1",))], "here")
    with pytest.raises(AuditError, match="here has several rows of 'privatesnn'"):
        joined([first, of_another_run("privatesnn")], "here")
