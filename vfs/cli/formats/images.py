"""Images: dimensions, colours and whether the pixels differ. The only importer of `PIL` (the extra `images`)."""

from __future__ import annotations

import importlib
import io
from typing import Any

from vfs.cli.formats.detail import Detail, MissingExtra, NotThisFormat, Readable, Stream, whole

PIXELS_MAX = 25_000_000
"""Images with more are described by their headers alone."""
_BYTES_MAX = 32 * 1024 * 1024


def describe(old: Readable, new: Readable) -> Detail:
    """Returns dimensions before and after. Raises MissingExtra, NotThisFormat."""
    try:
        image = importlib.import_module("PIL.Image")
        chops = importlib.import_module("PIL.ImageChops")
    except ImportError:
        raise MissingExtra("images", "dimensions of images") from None
    before, after = _opened(image, old), _opened(image, new)
    facts = {"old": _facts(before), "new": _facts(after)}
    words = f"{_words(before)} → {_words(after)}" if facts["old"] != facts["new"] else _words(after)
    if (before.size, before.mode) != (after.size, after.mode):
        return Detail("image", [words], facts)
    if before.width * before.height > PIXELS_MAX or max(old.size, new.size) > _BYTES_MAX:
        return Detail("image", [words], facts)
    try:
        box = chops.difference(image.open(io.BytesIO(whole(old))), image.open(io.BytesIO(whole(new)))).getbbox()
    except (OSError, ValueError, SyntaxError):
        return Detail("image", [words], facts)
    if box is None:
        return Detail("image", [f"{words}, the same pixels"], facts | {"pixels_differ": False})
    left, top, right, bottom = box
    where = f"{words}, pixels differ within {right - left} x {bottom - top} at ({left}, {top})"
    return Detail("image", [where], facts | {"pixels_differ": True, "box": list(box)})


def _opened(image: Any, source: Readable) -> Any:
    try:
        # Reads the header; pixels are decoded when they are asked for.
        return image.open(io.BufferedReader(Stream(source)))
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError):
        raise NotThisFormat from None


def _facts(image: Any) -> dict[str, Any]:
    return {"format": image.format, "width": image.width, "height": image.height, "mode": image.mode}


def _words(image: Any) -> str:
    return f"{image.format} {image.width} x {image.height} {image.mode}"
