"""The tables of the quantisation paper, with measured values beside the published ones."""

from leaderboards.quantization.layouts import LAYOUTS, build
from leaderboards.quantization.measured import each_run

__all__ = ["LAYOUTS", "build", "each_run"]
