"""The picture grid of a defense as one PNG, for a README or a slide: the paper's Fig. 6."""

from pathlib import Path

from matplotlib.figure import Figure

from audit.reporting.grid import MOST_CLASSES, Pictures


def write_sheet(pictures: Pictures, path: Path) -> None:
    """A row per image set, a column per class, ten at most; the folder is made where it is missing."""
    classes = pictures.classes[:MOST_CLASSES]
    figure = Figure(figsize=(1.6 + 0.8 * len(classes), 0.35 + 0.82 * len(pictures.columns)), layout="constrained")
    grid = figure.subplots(len(pictures.columns), len(classes), squeeze=False)
    for row, (label, pixels) in zip(grid, pictures.columns, strict=True):
        for axes, picture in zip(row, pixels, strict=False):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9, labelpad=6, parse_math=False)
    for axes, name in zip(grid[0], classes, strict=True):
        axes.set_title(name if len(name) <= 12 else name[:11] + "…", fontsize=8, parse_math=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
