"""Images drawn anew for a page: thumbnails, pictures and differences, always PNG, whatever the file holds."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from vfs.formats.detail import MissingExtra, NotThisFormat, Readable
from vfs.formats.images import DAMAGES, library, opened

_PIXELS_MAX = 100_000_000
_BYTES_MAX = 256 * 1024 * 1024
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


def picture(source: Readable, edge: int) -> bytes:
    """Returns an image as PNG, its longer edge at most `edge` pixels. Raises MissingExtra, NotThisFormat."""
    with _quiet() as pil:
        return _encoded(_decoded(pil, source, edge))


def difference(old: Readable, new: Readable, edge: int) -> bytes:
    """Returns where two images differ, as PNG: black where they are the same. Raises MissingExtra, NotThisFormat."""
    with _quiet() as pil:
        before, after = (_decoded(pil, side, edge).convert("RGB") for side in (old, new))
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
    with warnings.catch_warnings():
        # The library warns of large images; they are refused here by their number of pixels.
        warnings.simplefilter("ignore")
        try:
            yield pil
        except (*DAMAGES, pil.DecompressionBombError) as damage:
            raise NotThisFormat(f"the decoder says {str(damage)[:80]!r}") from None


def _decoded(pil: Any, source: Readable, edge: int) -> Any:
    if source.size > _BYTES_MAX:
        raise NotThisFormat("the file is too large to be drawn")
    image = opened(pil, source)
    if image.width * image.height > _PIXELS_MAX:
        raise NotThisFormat("it has too many pixels to be drawn")
    if image.format == "JPEG":
        # The decoder makes a smaller one of itself, in a fraction of the time.
        image.draft("RGB", (edge, edge))
    image.load()
    if image.mode.startswith(("I", "F")):
        image = _scaled(image)
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "RGB")
    image.thumbnail((edge, edge))
    return image


def _scaled(image: Any) -> Any:
    """Returns an image of numbers as grey values from its smallest to its largest number."""
    image = image.convert("F")
    low, high = image.getextrema()
    span = (high - low) or 1.0
    return image.point(lambda value: value * (255.0 / span) - low * 255.0 / span).convert("L")


def _encoded(image: Any) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG", compress_level=3)
    return written.getvalue()
