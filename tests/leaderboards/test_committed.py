"""Every row in the repository follows from its raw scores, and every committed table from the rows."""

from pathlib import Path

import pytest

from leaderboards.entries import ROOT, Entry, load
from leaderboards.verification import verify_row

HERE = Path(__file__).parent.parent.parent
ENTRIES = load(HERE / ROOT)


def test_there_are_rows() -> None:
    assert {"privatesnn", "data-free-conversion", "none"} <= {entry.defense for entry in ENTRIES}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.path.parent.parent.name}-{entry.defense}")
def test_a_committed_row_is_accepted_when_it_is_made_again_from_its_raw_scores(entry: Entry) -> None:
    verdict = verify_row(entry.path)
    assert verdict.accepted, verdict.text()
    made = next(f for f in verdict.findings if f.check == "raw scores")
    assert made.state == "passed"
