"""Whether the images are the data set's own: looked for where an audit looks for them."""

from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError, Unchecked
from audit.records import Record
from leaderboards.resolution import data_split
from tests.leaderboards.hostile import Contents


@pytest.fixture
def cifar(good: Contents) -> Record:
    """A record that says that it is about CIFAR-10."""
    record = good.record
    return record.model_copy(update={"dataset": record.dataset.model_copy(update={"name": "cifar10"})})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What an audit's data would be prepared of."""
    found: list[Any] = []

    def prepare(name: str, root: Path | None, settings: Any) -> None:
        found.append((name, root))
        raise AuditError("nothing is prepared here")

    monkeypatch.setattr("audit.pipeline.prepare_data", prepare)
    return found


def test_images_that_are_nowhere_are_not_checked_and_the_line_says_what_to_pass(
    cifar: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_DATA", raising=False)
    with pytest.raises(Unchecked, match=r"cifar10 needs a data folder with .*; pass --data-root or set AUDIT_DATA"):
        data_split(cifar, None)


def test_the_folder_is_the_one_that_an_audit_would_take(
    cifar: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(Unchecked, match=r"^AUDIT_DATA .*nowhere is not a folder; cifar10 expects"):
        data_split(cifar, None)
    with pytest.raises(Unchecked, match=r"^--data-root .*else is not a folder"):
        data_split(cifar, tmp_path / "else")
    (tmp_path / "nowhere" / "cifar10" / "train").mkdir(parents=True)
    with pytest.raises(Unchecked, match="cifar10"):
        data_split(cifar, None)


def test_what_is_read_is_what_an_audit_reads(cifar: Record, asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.data.load", lambda name, root: None)
    with pytest.raises(AuditError, match="nothing is prepared here"):
        data_split(cifar, None)
    assert asked == [("cifar10", None)]


def test_settings_that_no_data_set_has_are_refused_where_the_data_is_here(good: Contents) -> None:
    path = ("settings_resolved", "data", "test_images")
    with pytest.raises(AuditError, match="1 test images cannot cover 10 classes"):
        data_split(good.at(path, 1).record, None)
