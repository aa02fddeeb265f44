"""The picture grid of a defense as one PNG, for a README or a slide: the paper's Fig. 6."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audit.reporting.grid import MOST_CLASSES, Pictures

WHITE = 255
# Of a picture's side, between two of them.
GAP = 1 / 16
LONGEST = 12


def write_sheet(pictures: Pictures, path: Path) -> None:
    """A row per image set, a column per class, ten at most; the folder is made where it is missing."""
    names = [name if len(name) <= LONGEST else name[: LONGEST - 1] + "…" for name in pictures.classes[:MOST_CLASSES]]
    _, height, width, _ = pictures.columns[0][1].shape
    gap = max(1, round(GAP * max(height, width)))
    sheet = _mosaic(pictures, len(names), gap)
    figure = Figure(figsize=(1.6 + 0.8 * len(names), 0.35 + 0.82 * len(pictures.columns)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    centres = [place * (width + gap) + (width - 1) / 2 for place in range(len(names))]
    axes.set_xticks(centres, names, fontsize=8, parse_math=False)
    centres = [place * (height + gap) + (height - 1) / 2 for place in range(len(pictures.columns))]
    axes.set_yticks(centres, [label for label, _ in pictures.columns], fontsize=9, va="center", parse_math=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})


def _mosaic(pictures: Pictures, shown: int, gap: int) -> NDArray[np.uint8]:
    """All pictures in one, uint8 [H, W, 3]."""
    _, height, width, _ = pictures.columns[0][1].shape
    tall, wide = height + gap, width + gap
    sheet = np.full((len(pictures.columns) * tall - gap, shown * wide - gap, 3), WHITE, np.uint8)
    for row, (_, pixels) in enumerate(pictures.columns):
        for place, picture in enumerate(pixels[:shown]):
            sheet[row * tall : row * tall + height, place * wide : place * wide + width] = picture
    return sheet
