"""Raw scores are those of the record's evaluators, of as many images as its settings say, and no more than can be
checked: their hash alone would let anybody choose how few images are compared, in how few features."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from audit.errors import AuditError
from audit.recompute import read_scores, recomputed, scored_places
from audit.store import hash_tensors
from leaderboards.archive import RECORD
from tests.leaderboards.hostile import Contents, objection, put

Change = Callable[[str, Tensor], Tensor]
SAMPLE = "private sample/"
REAL = "real images, 2 per class/"
MEMBERS = "membership-inference/"


def other(good: Contents, change: Change) -> Contents:
    """With other raw scores, and their hashes in the record."""
    scores = {name: change(name, rows).contiguous() for name, rows in good.scores.items()}
    text = good.record.text()
    for result in good.record.results:
        for place, attack in scored_places(result):
            own = {k.removeprefix(f"{place}/"): rows for k, rows in scores.items() if k.startswith(f"{place}/")}
            text = text.replace(attack.scores_hash or "", hash_tensors(own))
    return good.holding({RECORD: text.encode()}).with_scores(scores)


def without(place: str, label: int, count: int, good: Contents) -> Change:
    """``count`` images less of one class in the sets of this name."""
    labels = next(rows for name, rows in good.scores.items() if name.endswith(f"{place}labels"))
    dropped = (labels == label).nonzero()[:count, 0].tolist()
    kept = torch.tensor([i for i in range(len(labels)) if i not in dropped])
    return lambda name, rows: rows[kept] if place in name else rows


def refusal(contents: Contents) -> str:
    with pytest.raises(AuditError) as refused:
        list(recomputed(contents.record, contents.scores))
    return str(refused.value)


CHANGES: dict[str, tuple[Change, str]] = {
    "features of 3 units": (
        lambda name, rows: rows[:, :3] if "/features/" in name else rows,
        "held-out real images: not the features and logits that its record's evaluators give, "
        "{'FD, evaluator features': 8} and 2, but {'FD, evaluator features': 3} and 2",
    ),
    "whole numbers": (
        lambda name, rows: rows.to(torch.int8) if "/features/" in name else rows,
        "features/FD, evaluator features holds torch.int8, not torch.float32",
    ),
    "logits of another kind": (
        lambda name, rows: rows.double() if "/logits/" in name else rows,
        "logits/0 holds torch.float64, not torch.float32",
    ),
    "similarity of another kind": (
        lambda name, rows: rows.half() if name.endswith("/similarity") else rows,
        "similarity holds torch.float16, not torch.float64",
    ),
    "a sample of 25": (lambda name, rows: rows[:25] if SAMPLE in name else rows, "holds [6, 6, 6, 6, 1, 0, "),
    "a sample of 1 per class": (
        lambda name, rows: rows[::6] if SAMPLE in name else rows,
        "seed 0/private sample holds [1, 1, 1, 1, 1, 1, 1, 1, 1, 1] images by class, not 6 of every class of the",
    ),
    "a sample twice": (lambda name, rows: rows.repeat_interleave(2, 0) if SAMPLE in name else rows, "holds [12, 12, "),
    "fewer real images": (
        lambda name, rows: rows[:13] if REAL in name else rows,
        "seed 0/real images, 2 per class holds [2, 2, 2, 2, 2, 2, 1, 0, 0, 0] images by class, not 2 of every class",
    ),
    "fewer candidates": (
        lambda name, rows: rows[:50] if MEMBERS in name else rows,
        "others among its candidates, not 60 of each",
    ),
    "members that are numbers": (
        lambda name, rows: rows.long() if name.endswith("/members") else rows,
        "members holds torch.int64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_scores_of_other_networks_or_of_other_numbers_of_images_are_refused(kind: str, good: Contents) -> None:
    change, reason = CHANGES[kind]
    assert reason in refusal(other(good, change))


def test_scores_that_were_only_hashed_again_are_what_they_were(good: Contents, tmp_path: Path) -> None:
    assert objection(other(good, lambda name, rows: rows), tmp_path) == ""
    few = other(good, lambda name, rows: rows[:, :3] if "/features/" in name else rows)
    assert "raw scores: seed 0/held-out real images: not the features" in objection(few, tmp_path)


def test_a_class_may_have_fewer_private_images_only_where_classes_are_uneven(good: Contents) -> None:
    contents = other(good, without(SAMPLE, 9, 3, good))
    assert "private sample holds [6, 6, 6, 6, 6, 6, 6, 6, 6, 3]" in refusal(contents)
    folder = contents.at(("dataset", "name"), "folder")
    assert len(list(recomputed(folder.record, folder.scores))) > 20
    counts = put(folder.document, ("dataset", "counts", "teacher"), 56)
    assert "not 6 of every class of the 56 in the part 'teacher'" in refusal(folder.claiming(counts))
    none = other(good, without(SAMPLE, 9, 6, good)).at(("dataset", "name"), "folder")
    assert "private sample holds [6, 6, 6, 6, 6, 6, 6, 6, 6, 0]" in refusal(none)


def test_a_record_with_inception_s_distance_has_inception_s_features(good: Contents) -> None:
    path = ("settings_resolved", "measure", "inception_weights")
    assert "{'FD, evaluator features': 8, 'FID, Inception': 2048} and 2, but" in refusal(good.at(path, "/w.pth"))
    named = {name.replace("FD, evaluator features", "FID, Inception"): rows for name, rows in good.scores.items()}
    record = other(good.with_scores(good.scores | named), lambda name, rows: rows)
    assert "but {'FD, evaluator features': 8, 'FID, Inception': 8} and 2" in refusal(record)


@pytest.mark.parametrize("architecture", ["vgg99", "../../etc"])
def test_features_of_a_network_that_nobody_knows_are_refused(architecture: str, good: Contents) -> None:
    path = ("results", 0, "evaluator", "architecture")
    assert f"an evaluator '{architecture}' is no network" in refusal(good.at(path, architecture))


def test_more_than_can_be_checked_is_refused_before_it_is_measured(
    good: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("audit.recompute.MOST_VALUES", 1000)
        with pytest.raises(AuditError, match="the raw scores: more than 1,000 numbers; no more are checked"):
            read_scores(good.files["scores.npz"])
    with monkeypatch.context() as patch:
        patch.setattr("audit.recompute.MOST_PRODUCTS", (8 + 64) * 88**2 * 2)
        found: list[str] = []
        with pytest.raises(AuditError, match="with it there are more images and features than can be checked in time"):
            found.extend(place for place, _ in recomputed(good.record, good.scores))
        assert found == ["seed 0/held-out real images", "seed 0/uniform noise"]
