"""Tiny data sets, written where a test wants them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImage = Callable[..., Path]
WriteClasses = Callable[..., Path]


@pytest.fixture
def write_image() -> WriteImage:
    """write_image(path, value, size=(4, 4), mode="RGB"): one flat image; the folders are made on the way."""

    def write(path: Path, value: int = 0, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size[::-1], value, dtype=np.uint8)).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def write_classes(write_image: WriteImage) -> WriteClasses:
    """write_classes(folder, classes, per_class=2, **image): <class>/<n>.png, image n of class c with value 10 c + n."""

    def write(folder: Path, classes: list[str], per_class: int = 2, **image: object) -> Path:
        for label, name in enumerate(classes):
            for number in range(per_class):
                write_image(folder / name / f"{number}.png", (10 * label + number) % 256, **image)
        return folder

    return write


@pytest.fixture
def no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if AUDIT_DATA were not set."""
    monkeypatch.delenv("AUDIT_DATA", raising=False)
