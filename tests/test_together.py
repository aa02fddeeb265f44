"""Several commands at once on one store: each stage is made by one of them, and all write the same record."""

from pathlib import Path

import pytest

from audit.records import Record
from tests.test_killed import begun, left_behind, options, told


@pytest.mark.parametrize("number", [2, 4])
def test_commands_that_run_at_once_make_every_stage_once_and_the_same_record(number: int, tmp_path: Path) -> None:
    errors, runs = tmp_path / "errors", [tmp_path / f"run-{i}" for i in range(number)]
    running = [begun(options(tmp_path / "store", run), errors) for run in runs]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * number, errors.read_text()
    records = [Record.read(run / "record.json") for run in runs]
    assert all(told(record) == told(records[0]) for record in records)
    made = [line.key for record in records for line in record.stages if not line.cached]
    assert len(made) == len(set(made))
    # What is needed for a target alone (synthetic images) is in the record of the one that made it.
    assert all({line.key for line in record.stages} <= set(made) for record in records)
    assert left_behind(tmp_path) == []
