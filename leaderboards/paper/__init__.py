"""The tables and figures of the PrivateSNN paper, with measured values beside the published ones."""

from leaderboards.paper.layouts import ALL, LAYOUTS, build
from leaderboards.paper.measured import Options
from leaderboards.paper.runs import Run, read
from leaderboards.paper.terminal import terminal
from leaderboards.paper.text import text

__all__ = ["ALL", "LAYOUTS", "Options", "Run", "build", "read", "terminal", "text"]
