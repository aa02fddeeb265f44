from pathlib import Path

import pytest

from tests.conftest import Outcome
from tests.leaderboards.hostile import Contents, honest, remember


@pytest.fixture
def good(audited: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch) -> Contents:
    """A submission that is accepted."""
    remember(monkeypatch)
    return honest(audited[0])
