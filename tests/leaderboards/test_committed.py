"""Rows in the repository follow from their raw scores."""

import os
from pathlib import Path

import pytest

from leaderboards.entries import ROOT, Entry, load
from leaderboards.verification import verify_row

HERE = Path(__file__).parent.parent.parent
ENTRIES = load(HERE / ROOT)
# Each takes half a minute: one of every board, that of the smallest hash, unless AUDIT_EVERY_ROW is set.
ONE_OF_EACH = {entry.path.parent.parent: entry for entry in sorted(ENTRIES, key=lambda e: e.hash, reverse=True)}
CHECKED = ENTRIES if "AUDIT_EVERY_ROW" in os.environ else list(ONE_OF_EACH.values())


def test_there_are_rows() -> None:
    assert {"privatesnn", "data-free-conversion", "none"} <= {entry.defense for entry in ENTRIES}


@pytest.mark.parametrize("entry", CHECKED, ids=lambda entry: f"{entry.path.parent.parent.name}-{entry.defense}")
def test_a_committed_row_is_accepted_when_it_is_made_again_from_its_raw_scores(entry: Entry) -> None:
    verdict = verify_row(entry.path)
    assert verdict.accepted, verdict.text()
    made = next(f for f in verdict.findings if f.check == "raw scores")
    assert made.state == "passed"
