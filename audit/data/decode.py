"""Pixels from image files: 8 bits, grey or RGB, one size."""

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from audit.errors import AuditError

Pixels = NDArray[np.uint8]

_GREY = frozenset({"1", "L", "LA", "La"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"})
# What Pillow's plugins raise for damaged files, as far as it is not an OSError.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_CHUNK = 256
_THREADS = 4


@dataclass(frozen=True)
class Decoded:
    """``pixels`` uint8 [N, 3, H, W]; ``grey``: no file had colours, so that the three channels are one."""

    pixels: Pixels
    grey: bool


def open_image(path: Path) -> Image.Image:
    """The decoded image, upright, in mode L or RGB. Raises AuditError naming a file that cannot be decoded."""
    try:
        with Image.open(path) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode in _GREY:
                return image.convert("L")
            if image.mode in _COLOUR:
                return image.convert("RGB")
            mode = image.mode
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise AuditError(f"cannot decode the image {path} ({reason}); replace or remove it") from error
    raise AuditError(f"the image {path} has pixels of mode {mode}; save it with 8 bits per channel, grey or RGB")


def fit(image: Image.Image, size: int) -> Image.Image:
    """``size`` x ``size`` pixels: the shorter side resized (bilinear, antialiased), then the centre cropped."""
    shorter = min(image.size)
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    return image if width == height else image.crop((left, top, left + size, top + size))


def resize_pixels(pixels: Pixels, size: int) -> Pixels:
    """``fit`` for images in memory: uint8 [N, H, W] or [N, H, W, 3] to [N, size, size(, 3)]."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    return np.stack([np.asarray(fit(Image.fromarray(image), size)) for image in pixels])


def decode(paths: Sequence[Path], image_size: int | None, reference: Path) -> Decoded:
    """Decode ``paths`` in order, in a few threads.

    Without ``image_size`` every image must have the size of the image ``reference``; raises AuditError otherwise.
    """
    width, height = open_image(reference).size if image_size is None else (image_size, image_size)
    pixels = np.empty((len(paths), 3, height, width), dtype=np.uint8)

    def decode_chunk(start: int) -> bool:
        grey = True
        for index, path in enumerate(paths[start : start + _CHUNK], start):
            image = open_image(path)
            image = image if image_size is None else fit(image, image_size)
            if image.size != (width, height):
                found, wanted = "x".join(map(str, image.size)), f"{width}x{height}"
                raise AuditError(
                    f"the image {path} is {found} pixels but {reference} is {wanted}; "
                    "pass --image-size to bring all images to one size"
                )
            grey &= image.mode == "L"
            array = np.asarray(image)
            pixels[index] = array if array.ndim == 2 else array.transpose(2, 0, 1)
        return grey

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return Decoded(pixels, all(list(pool.map(decode_chunk, range(0, len(paths), _CHUNK)))))
