"""How much memory a stage took at its most."""

import re
from contextlib import suppress
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Peaks:
    """The most that this process had resident, while each of several nested stages was made.

    Linux keeps the peak of a process and lets it begin anew; elsewhere there is none of a stage, only of all so far.
    """

    def __init__(self) -> None:
        self._open: list[int] = []
        self._known = _begin_anew()

    def begin(self) -> None:
        self._look()
        self._open.append(0)

    def end(self) -> int | None:
        """Bytes since the `begin` that belongs to it; None where it is not known."""
        self._look()
        found = self._open.pop()
        if self._open:
            self._open[-1] = max(self._open[-1], found)
        return found if self._known and found else None

    def _look(self) -> None:
        if self._open and self._known:
            self._open[-1] = max(self._open[-1], _peak())
        _begin_anew()


def _begin_anew() -> bool:
    with suppress(OSError):
        RESET.write_text("5")
        return True
    return False


def _peak() -> int:
    with suppress(OSError):
        found = PEAK.search(STATUS.read_text())
        return 1024 * int(found[1]) if found else 0
    return 0
