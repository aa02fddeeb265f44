"""The picture grid of a defense, the paper's Fig. 6: what it holds, and what the report's page shows of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.reporting import figures

MOST_CLASSES = 10


@dataclass(frozen=True)
class Pictures:
    """The paper's Fig. 6: one picture per class and column.

    ``columns`` are (label, uint8 [K, H, W, 3 or 1]) in reading order: the originals, then one per attack and target.
    A line break in a label separates the attack from the target. Raises ValueError where shapes do not fit.
    """

    classes: tuple[str, ...]
    columns: tuple[tuple[str, NDArray[np.uint8]], ...]

    def __post_init__(self) -> None:
        for label, pixels in self.columns:
            if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
                raise ValueError(
                    f"pictures {label!r}: uint8 [K, H, W, 1 or 3] expected, not {pixels.dtype} {pixels.shape}"
                )
            if len(pixels) != len(self.classes):
                raise ValueError(f"pictures {label!r}: {len(pixels)} pictures for {len(self.classes)} classes")


@dataclass(frozen=True)
class Image:
    """A picture that the page holds once, however many grids show it."""

    name: str
    width: int
    height: int


def grid_of(defense: str, pictures: Pictures, images: dict[str, Image]) -> dict[str, Any]:
    """What the page shows: at most ten classes, beyond that the pictures get too small to see what they are for.

    ``images``, by data URI, takes the pictures: every grid has those of the undefended network, the page has them once.
    """
    shown = pictures.classes[:MOST_CLASSES]
    columns = []
    for place, (label, _) in enumerate(pictures.columns):
        first, *rest = label.split("\n", 1)
        letter = chr(ord("a") + place) if place < 26 else str(place + 1)
        columns.append({"letter": letter, "first": first, "second": "".join(rest), "label": label.replace("\n", ", ")})
    rows = [
        {
            "name": name,
            "cells": [
                {"image": _shared(pixels[place], images), "alt": f"{name}: {column['label']}"}
                for column, (_, pixels) in zip(columns, pictures.columns, strict=True)
            ],
        }
        for place, name in enumerate(shown)
    ]
    return {"defense": defense, "columns": columns, "rows": rows, "classes": len(pictures.classes)}


def _shared(pixels: NDArray[np.uint8], images: dict[str, Image]) -> Image:
    height, width, _ = pixels.shape
    return images.setdefault(figures.png(pixels), Image(f"picture-{len(images)}", width, height))
