"""The peak of a stage is its own, and that of a stage within it."""

import pytest
import torch

from audit import memory
from audit.memory import Peaks

MB = 2**20


@pytest.fixture
def peaks() -> Peaks:
    found = Peaks()
    if not found._known:
        pytest.skip("this system does not let the peak of a process begin anew")
    return found


def test_a_peak_is_that_of_its_own_time(peaks: Peaks) -> None:
    peaks.begin()
    torch.ones(64 * MB, dtype=torch.uint8)
    first = peaks.end()
    peaks.begin()
    second = peaks.end()
    assert first is not None
    assert second is not None
    assert first - second > 48 * MB


def test_what_a_stage_within_it_took_is_its_own_as_well(peaks: Peaks) -> None:
    peaks.begin()
    peaks.begin()
    torch.ones(64 * MB, dtype=torch.uint8)
    inner = peaks.end()
    outer = peaks.end()
    assert inner == outer is not None


def test_where_it_cannot_begin_anew_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "RESET", memory.STATUS / "nothing")
    peaks = Peaks()
    peaks.begin()
    assert peaks.end() is None
