"""Images re-encoded for a page: thumbnails, pictures and differences, as PNG or JPEG, whatever the file holds."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from threading import Lock
from typing import Any, NamedTuple

from vfs.formats.detail import MissingExtra, NotThisFormat, Readable
from vfs.formats.images import DAMAGES, library, opened

_PIXELS_MAX = 100_000_000
_BYTES_MAX = 256 * 1024 * 1024
_PIXELS_TOGETHER = 4_000_000
"""Of larger images one is decoded at a time: a browser asks for many at once, and each takes up to 400 MB."""
_STRIP_PIXELS = 1_000_000
_ORIENTATION = 0x0112
_BLOCK_BYTES = 64 * 1024 * 1024
"""More than the largest block for which the C library raises its threshold and keeps it."""
_large = Lock()
_GAIN = 4
"""How much a difference of two images is brightened: a change of one step in 255 is not seen."""


class ImageFacts(NamedTuple):
    """What an image's header says."""

    format: str
    width: int
    height: int
    mode: str


def image_facts(source: Readable) -> ImageFacts:
    """Returns what the header says. Raises MissingExtra, NotThisFormat."""
    with _quiet() as pil:
        image = opened(pil, source)
        return ImageFacts(str(image.format), image.width, image.height, image.mode)


def picture(source: Readable, edge: int, *, is_quick: bool = False) -> bytes:
    """Returns an image as PNG, its longer edge at most `edge` pixels. Raises MissingExtra, NotThisFormat.

    `is_quick`: what was JPEG is drawn as JPEG, in a fifth of the time, and loses a little once more.
    """
    with _quiet() as pil:
        image, is_lossy = _decoded(pil, source, edge)
        return _encoded(image, is_quick=is_quick, is_jpeg=is_quick and is_lossy and image.mode in ("L", "RGB"))


def media_type(data: bytes) -> str:
    """Returns the media type of what this module has drawn."""
    return "image/jpeg" if data.startswith(b"\xff\xd8") else "image/png"


def difference(old: Readable, new: Readable, edge: int) -> bytes:
    """Returns where two images differ, as PNG: black where they are the same. Raises MissingExtra, NotThisFormat."""
    with _quiet() as pil:
        before, after = (_decoded(pil, side, edge)[0].convert("RGB") for side in (old, new))
        if before.size != after.size:
            raise NotThisFormat("the images have other dimensions")
        chops = importlib.import_module("PIL.ImageChops")
        return _encoded(chops.difference(before, after).point([min(value * _GAIN, 255) for value in range(256)] * 3))


@contextmanager
def _quiet() -> Iterator[Any]:
    try:
        pil = library()
    except ImportError:
        raise MissingExtra("images", "images") from None
    # Blocks of this size go back to the system when they are free; smaller ones stay with the thread that had them.
    pil.core.set_block_size(_BLOCK_BYTES)
    with warnings.catch_warnings():
        # The library warns of large images; they are refused here by their number of pixels.
        warnings.simplefilter("ignore")
        try:
            yield pil
        except (*DAMAGES, pil.DecompressionBombError) as damage:
            raise NotThisFormat(f"the decoder says {str(damage)[:80]!r}") from None


def _decoded(pil: Any, source: Readable, edge: int) -> tuple[Any, bool]:
    """Returns an image that is not larger than asked for, turned as its camera was, and whether it was JPEG."""
    if source.size > _BYTES_MAX:
        raise NotThisFormat("the file is too large to be drawn")
    image = opened(pil, source)
    if image.width * image.height > _PIXELS_MAX:
        raise NotThisFormat("it has too many pixels to be drawn")
    is_jpeg = image.format == "JPEG"
    if is_jpeg:
        # The decoder makes a smaller one of itself, in a fraction of the time.
        longest = max(image.size)
        image.draft("RGB", (max(image.width * edge // longest, 1), max(image.height * edge // longest, 1)))
    with _large if image.width * image.height > _PIXELS_TOGETHER else nullcontext():
        image.load()
        drawn = _reduced(image, max(max(image.size) // (2 * edge), 1))
        orientation = 1
        with suppress(*DAMAGES):
            # What is said of the camera may be damaged, and the image is whole all the same.
            orientation = image.getexif().get(_ORIENTATION, 1)
        # The next one is decoded when the memory of this one is free.
        del image
    if drawn.mode == "F":
        drawn = _scaled(drawn)
    drawn.thumbnail((edge, edge))
    with suppress(*DAMAGES):
        drawn.getexif()[_ORIENTATION] = orientation
        importlib.import_module("PIL.ImageOps").exif_transpose(drawn, in_place=True)
    return drawn, is_jpeg


def _reduced(image: Any, factor: int) -> Any:
    """Returns an image in a mode that can be drawn, its edges divided by `factor`.

    A strip is converted at a time: another copy of the whole image may take more than itself.
    """
    if image.mode.startswith(("I", "F")):
        mode = "F"
    elif image.mode in ("L", "RGB", "RGBA"):
        mode = image.mode
    else:
        mode = "RGBA" if "A" in image.mode or "transparency" in image.info else "RGB"
    if factor == 1:
        return image if image.mode == mode else image.convert(mode)
    size = (-(-image.width // factor), -(-image.height // factor))
    reduced = importlib.import_module("PIL.Image").new(mode, size)
    rows = max(_STRIP_PIXELS // (image.width * factor), 1) * factor
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced.paste((strip if strip.mode == mode else strip.convert(mode)).reduce(factor), (0, top // factor))
    return reduced


def _scaled(image: Any) -> Any:
    """Returns an image of numbers as grey values from its smallest to its largest number."""
    low, high = image.getextrema()
    span = (high - low) or 1.0
    return image.point(lambda value: value * (255.0 / span) - low * 255.0 / span).convert("L")


def _encoded(image: Any, *, is_quick: bool = False, is_jpeg: bool = False) -> bytes:
    written = io.BytesIO()
    if is_jpeg:
        image.save(written, "JPEG", quality=85)
    else:
        # Without what the file says beside its pixels.
        image.save(written, "PNG", compress_level=1 if is_quick else 3, exif=b"", icc_profile=None)
    return written.getvalue()
