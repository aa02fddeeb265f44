"""Rows in the repository follow from their raw scores."""

import os
import re
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.recompute import read_scores, recomputed, recomputed_together, scored_places
from audit.records import Record
from audit.spiking.files import load_network, weights
from audit.store import hash_tensors
from leaderboards.archive import SCORES
from leaderboards.entries import ROOT, Entry, load
from leaderboards.tracks import read_track
from leaderboards.verification import Opened, raw_scores, verify_row
from tests.conftest import Command

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


def test_the_rows_of_digits_have_their_weights_beside_them() -> None:
    rows = [entry for entry in ENTRIES if entry.record.dataset.name == "digits"]
    assert len(rows) >= 17
    for entry in rows:
        assert list(entry.weights) == [result.seed for result in entry.record.results], entry.path
    [row] = [entry for entry in rows if entry.defense == "privatesnn"]
    for result, path in zip(row.results(), row.weights.values(), strict=True):
        network = load_network(path)
        assert hash_tensors(weights(network)) == result.target_hash


def test_the_networks_of_a_committed_track_are_told_apart_in_a_terminal(command: Command) -> None:
    shown = command("tables", HERE / "leaderboards" / "tracks" / "robustness" / "cifar10-vgg9").out
    rows = [line for line in shown.splitlines() if re.match(r"(direct|phase) +quantized", line)]
    heads = {tuple(re.split(r" {2,}", row)[:4]) for row in rows}
    assert len(heads) == len(rows) == 12


TRACKS = sorted((HERE / "leaderboards" / "tracks").glob("*/*/track.json"))
RUNS = [run for track in TRACKS for run in sorted(track.parent.glob("*/record.json"))]
ONE_RUN = list({run.parent.parent: run for run in RUNS}.values())


@pytest.mark.parametrize(
    "path", RUNS if "AUDIT_EVERY_ROW" in os.environ else ONE_RUN, ids=lambda path: "-".join(path.parts[-3:-1])
)
def test_a_committed_run_of_a_track_follows_from_its_raw_scores(path: Path) -> None:
    record, scores = Record.read(path), read_scores(path.with_name("scores.npz"))
    [result] = record.results
    claimed = {place: attack.measurements for place, attack in scored_places(result)}
    assert dict(recomputed(record, scores)) == claimed
    assert len(claimed) == 15
    [(_, together)] = recomputed_together(record, scores)
    assert together == result.defenses[0].evasions
    assert len(together) == 3


def test_a_changed_claim_of_what_all_evasions_take_is_found() -> None:
    path = ONE_RUN[0]
    record, scores = Record.read(path), path.with_name("scores.npz").read_bytes()
    [result] = record.results
    [defense] = result.defenses
    first, *others = defense.evasions
    lower = first.model_copy(update={"value": 0.0, "low": 0.0})
    changed = defense.model_copy(update={"evasions": (lower, *others)})
    claimed = record.model_copy(update={"results": (result.model_copy(update={"defenses": (changed,)}),)})
    assert "all equal" in raw_scores(Opened(None, {SCORES: scores}, record))
    with pytest.raises(AuditError, match=r"accuracy loss, all evasions, 2/255 is claimed as 0\.0"):
        raw_scores(Opened(None, {SCORES: scores}, claimed))


def test_every_place_of_a_committed_track_has_its_run_or_its_reason() -> None:
    assert len(TRACKS) >= 1
    for track in TRACKS:
        read = read_track(track.parent)
        assert read is not None
        assert len({(record.command, record.environment.code_hash) for record in read.records}) == 1
        assert len(read.records) + len(read.absent) in (12, 24)
