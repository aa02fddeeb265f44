"""What stages cost when they were made, as a guess of what they will cost: a line each, in a file of the store."""

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median


class Costs:
    """Nothing depends on them: what cannot be written or read is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, scale: str, stage: str, label: str, seconds: float) -> None:
        """``scale``: data set, network and profile; ``seconds`` of wall time, with what was made on the way."""
        line = json.dumps([scale, stage, label, round(seconds, 3)]) + "\n"
        with suppress(OSError):
            # One write to the end of the file: lines of several processes do not mix.
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def of(self, scale: str) -> "Guess":
        """From what runs of this scale have cost."""
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        for line in lines:
            with suppress(ValueError, TypeError):
                its, stage, label, seconds = json.loads(line)
                if its == scale:
                    for key in ((stage, label), (stage, _what(label)), (stage, "")):
                        found[key].append(float(seconds))
        return Guess({key: median(several) for key, several in found.items()})


class Guess:
    """Seconds by stage."""

    def __init__(self, seconds: Mapping[tuple[str, str], float]) -> None:
        self._seconds = seconds

    def __call__(self, stage: str, label: str) -> float | None:
        """The median of this stage; else of this attack on anything; else of its kind. None where none was made."""
        keys = ((stage, label), (stage, _what(label)), (stage, ""))
        return next((self._seconds[key] for key in keys if key in self._seconds), None)


def _what(label: str) -> str:
    """'reconversion' of 'reconversion on privatesnn'."""
    return label.partition(" on ")[0]
