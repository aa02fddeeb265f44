"""The tables of the quantisation paper, with measured values beside the published ones."""

from leaderboards.quantization.layouts import LAYOUTS, build

__all__ = ["LAYOUTS", "build"]
