"""Images, pixel by pixel and frame by frame. The only importer of `PIL` (the extra `images`).

Pixels are the same where what the file stores for each is: colours with their transparency, numbers and palette. Of
files with more bits than the library decodes, equal pixels prove nothing, and are not called the same.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from vfs.formats.detail import (
    Detail,
    MissingExtra,
    NotThisFormat,
    Readable,
    Stream,
    cut,
    whole,
    written_differently,
)
from vfs.formats.text_diff import shown_line

ENDINGS = (b".png", b".jpg", b".jpeg", b".gif", b".bmp", b".tif", b".tiff", b".webp", b".ppm", b".pgm", b".apng")
"""The file name extensions that this module knows."""
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM")
"""What is decoded, whatever a name says: the library knows others, of which some start programs (EPS: Ghostscript)."""
PIXELS_MAX = 25_000_000
"""Images with more, all frames together, are described by their headers alone unless the caller is patient."""
PATIENT_PIXELS_MAX = 500_000_000
_FRAME_PIXELS_MAX = 100_000_000
_BYTES_MAX = 32 * 1024 * 1024
_PATIENT_BYTES_MAX = 256 * 1024 * 1024
_STRIP_BYTES = 4 * 1024 * 1024
_COLOURS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
"""Modes that RGBA holds without loss."""
_EXACT = {
    "1": {"1", "1;I", "1;R", "1;IR", "1;8"},
    "L": {"L", "L;2", "L;4", "L;I", "L;2I", "L;4I", "L;R", "L;IR"},
    "LA": {"LA", "LA;L"},
    "P": {"P", "P;1", "P;2", "P;4", "P;R"},
    "PA": {"PA"},
    "RGB": {"RGB", "BGR", "RGB;L", "BGR;15", "BGR;16", "R", "G", "B"},
    "RGBA": {"RGBA", "BGRA", "ABGR", "RGBA;L", "R", "G", "B", "A"},
    "CMYK": {"CMYK", "CMYK;I", "C", "M", "Y", "K"},
    "YCbCr": {"YCbCr"},
    "I;16": {"I;16", "I;16B", "I;16L", "I;16N", "I;12"},
    "I;16B": {"I;16B"},
    "I": {"I", "I;16", "I;16B", "I;16S", "I;16BS", "I;16NS", "I;32S", "I;32BS", "I;32NS", "I;8S"},
    "F": {"F;32F", "F;32BF", "F;32NF"},
}
"""By mode: the ways to store a pixel that it holds without loss. The library drops bits of others."""
_INFO_IGNORED = {"transparency"}
"""What is compared with the pixels."""
_TAGS_OF_PLACE = {273, 278, 279, 322, 323, 324, 325, 288, 289}
_VALUE_CHARACTERS_MAX = 40
DAMAGES = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, AttributeError, OverflowError)
"""What decoders raise for damaged files."""


class _Frame(NamedTuple):
    """A decoded frame: the image, its mode and size, and its other properties."""

    image: Any
    is_exact: bool
    info: dict[str, Any]


class _Pixels(NamedTuple):
    """How pixels of two frames differ: not at all, within a box (left, top, right, bottom), or in other ways."""

    box: tuple[int, int, int, int] | None = None
    words: str = ""

    @property
    def is_same(self) -> bool:
        """Returns True if no compared pixel or property differs."""
        return self.box is None and not self.words


def describe(old: Readable, new: Readable, *, patient: bool = False) -> Detail:
    """Returns dimensions before and after, and which pixels differ. Raises MissingExtra, NotThisFormat."""
    try:
        pil = library()
    except ImportError:
        raise MissingExtra("images", "images") from None
    with warnings.catch_warnings():
        # The library warns of large images; they are refused here by their number of pixels.
        warnings.simplefilter("ignore")
        return _described(pil, old, new, patient=patient)


def library() -> Any:
    """Returns the imaging library. Raises ImportError."""
    return importlib.import_module("PIL.Image")


def _described(library: Any, old: Readable, new: Readable, *, patient: bool) -> Detail:
    before, after = opened(library, old), opened(library, new)
    facts = {"old": _facts(before), "new": _facts(after)}
    words = f"{_words(before)} → {_words(after)}" if facts["old"] != facts["new"] else _words(after)
    if before.size != after.size:
        return Detail("image", [words], facts)
    try:
        frames = (_frames_of(before), _frames_of(after))
    except DAMAGES as damage:
        return _uncompared(words, facts, _damage(damage))
    if frames[0] != frames[1]:
        return Detail("image", [f"{words}, {frames[0]:,} → {frames[1]:,} frames"], facts | {"frames": list(frames)})
    pixels = before.width * before.height * frames[0]
    pixels_max, bytes_max = (PATIENT_PIXELS_MAX, _PATIENT_BYTES_MAX) if patient else (PIXELS_MAX, _BYTES_MAX)
    if pixels > pixels_max or before.width * before.height > _FRAME_PIXELS_MAX or max(old.size, new.size) > bytes_max:
        return _uncompared(words, facts, f"{pixels:,} pixels are too many")
    before, after = (library.open(io.BytesIO(whole(side)), formats=_FORMATS) for side in (old, new))
    try:
        return _compared(words, facts, before, after, frames[0])
    except (*DAMAGES, library.DecompressionBombError) as damage:
        return _uncompared(words, facts, _damage(damage))


def _compared(words: str, facts: dict[str, Any], before: Any, after: Any, frames: int) -> Detail:
    differing: list[tuple[int, _Pixels]] = []
    metadata: dict[str, None] = {}
    is_exact = True
    for number in range(frames):
        was, now = _frame(before, number), _frame(after, number)
        found = _difference(was.image, now.image)
        is_exact = is_exact and was.is_exact and now.is_exact
        if not found.is_same:
            differing.append((number, found))
        metadata |= dict.fromkeys(_other_info(was.info, now.info))
    if differing:
        number, first = differing[0]
        where = _where(first) if frames == 1 else (
            f"{len(differing):,} of {frames:,} frames differ, the first number {number + 1:,}: {_where(first)}"
        )  # fmt: skip
        value = {"pixels_differ": True, "frames_differ": len(differing), "metadata_differs": list(metadata)}
        box = {"box": list(first.box)} if first.box is not None else {}
        return Detail("image", [f"{words}, {where}", *_metadata_lines(metadata)], facts | value | box)
    if not is_exact:
        reason = "no difference in the bits that are decoded, but the file may have more"
        return _uncompared(words, facts, reason, metadata)
    # Without a palette the numbers that it was asked by are gone.
    same = "the same pixels" if facts["old"]["mode"] == facts["new"]["mode"] else "the same colours"
    same += f" in {frames:,} frames" if frames > 1 else ""
    lines = [f"{words}, {same}", *(_metadata_lines(metadata) or [written_differently([])])]
    return Detail("image", lines, facts | {"pixels_differ": False, "metadata_differs": list(metadata)})


def _where(found: _Pixels) -> str:
    if found.box is None:
        return found.words
    left, top, right, bottom = found.box
    return f"pixels differ within {right - left} x {bottom - top} at ({left}, {top})"


def _metadata_lines(metadata: dict[str, None]) -> list[str]:
    names = [cut(shown_line(name.encode("utf-8", "backslashreplace")), _VALUE_CHARACTERS_MAX) for name in metadata]
    return [f"metadata differs: {', '.join(names)}"] if names else []


def _uncompared(words: str, facts: dict[str, Any], reason: str, metadata: dict[str, None] | None = None) -> Detail:
    lines = [words, f"not compared pixel by pixel: {reason}", *_metadata_lines(metadata or {})]
    return Detail("image", lines, facts | {"not_compared": reason})


def _damage(error: Exception) -> str:
    return f"the decoder says {cut(shown_line(str(error).encode('utf-8', 'backslashreplace')), 80)!r}"


def opened(library: Any, source: Readable) -> Any:
    """Returns an image of which the header alone is read. Raises NotThisFormat."""
    try:
        # Reads the header; pixels are decoded when they are asked for.
        return library.open(io.BufferedReader(Stream(source)), formats=_FORMATS)
    except library.DecompressionBombError:
        raise NotThisFormat("it has too many pixels") from None
    except library.UnidentifiedImageError:
        raise NotThisFormat("it is no image that can be read") from None
    except DAMAGES as damage:
        raise NotThisFormat(_damage(damage)) from None


def _frames_of(image: Any) -> int:
    return int(getattr(image, "n_frames", 1))


def _frame(image: Any, number: int) -> _Frame:
    if number or _frames_of(image) > 1:
        image.seek(number)
    # Tiles are gone once they are decoded.
    is_exact = all(_keeps_all(image, tile) for tile in image.tile) and (bool(image.tile) or image.format == "WEBP")
    if image.width * image.height > _FRAME_PIXELS_MAX:
        raise ValueError(f"frame {number + 1:,} is {image.width} x {image.height}")
    image.load()
    info = _tags(image)
    for name, value in image.info.items():
        if name not in _INFO_IGNORED:
            info[_INFO_WORDS.get(str(name), str(name))] = repr(value)
    return _Frame(image, is_exact, info)


def _tags(image: Any) -> dict[str, Any]:
    tags = getattr(image, "tag_v2", None) or {}
    known = importlib.import_module("PIL.TiffTags")
    return {known.lookup(tag).name: repr(tags[tag]) for tag in tags if tag not in _TAGS_OF_PLACE}


_INFO_WORDS = {"exif": "EXIF", "icc_profile": "colour profile", "xmp": "XMP", "duration": "durations of frames"}


def _keeps_all(image: Any, tile: Any) -> bool:
    """Returns True if the image's mode holds all that a part of the file stores for each pixel."""
    decoder, arguments = tile[0], tile[3]
    if decoder in ("gif", "webp"):
        return True
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if decoder in ("ppm", "ppm_plain"):
        depth = arguments if isinstance(arguments, int) else arguments[-1]
        return isinstance(depth, int) and depth <= (65535 if image.mode == "I" else 255)
    return isinstance(first, str) and first in _EXACT.get(image.mode, ())


def _other_info(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    return (name for name in {**old, **new} if old.get(name) != new.get(name))


def _difference(old: Any, new: Any) -> _Pixels:
    if old.size != new.size:
        return _Pixels(words=f"{old.width} x {old.height} → {new.width} x {new.height}")
    if old.mode != new.mode:
        if {old.mode, new.mode} <= _COLOURS:
            return _boxed(old.convert("RGBA"), new.convert("RGBA"))
        return _Pixels(words=f"pixels of mode {old.mode} and {new.mode} are not compared")
    found = _boxed(old, new)
    besides = _besides(old), _besides(new)
    if found.box is not None or besides[0] == besides[1]:
        return found
    # The same numbers can stand for other colours.
    if old.mode in _COLOURS:
        shown = _boxed(old.convert("RGBA"), new.convert("RGBA"))
        return (
            shown if shown.box is not None else _Pixels(words="palette or transparency differ where no pixel has them")
        )
    return _Pixels(words="transparency differs")


def _besides(image: Any) -> tuple[Any, ...]:
    """Returns the properties besides pixel values that change how an image looks: palette and transparency."""
    palette = image.palette if image.mode in ("P", "PA") else None
    colours = (palette.mode, palette.tobytes()) if palette is not None else None
    return colours, image.info.get("transparency")


def _boxed(old: Any, new: Any) -> _Pixels:
    """Compares images of one mode and size by the bytes of their pixels, a strip of rows at a time."""
    if old.mode == "1":
        # Eight pixels a byte: the box is found in whole pixels.
        old, new = old.convert("L"), new.convert("L")
    width, height = old.size
    if not width or not height:
        return _Pixels()
    row_bytes = len(old.crop((0, 0, width, 1)).tobytes())
    pixel_bytes = row_bytes // width
    step = max(_STRIP_BYTES // row_bytes, 1)
    left, top, right, bottom = width, height, 0, 0
    for start in range(0, height, step):
        box = (0, start, width, min(start + step, height))
        was, now = old.crop(box).tobytes(), new.crop(box).tobytes()
        if was == now:
            continue
        for at in range(0, len(was), row_bytes):
            one, other = was[at : at + row_bytes], now[at : at + row_bytes]
            if one == other:
                continue
            row = start + at // row_bytes
            top, bottom = min(top, row), row + 1
            left = min(left, _alike(one, other) // pixel_bytes)
            right = max(right, width - _alike(one[::-1], other[::-1]) // pixel_bytes)
    return _Pixels((left, top, right, bottom)) if bottom else _Pixels()


def _alike(old: bytes, new: bytes) -> int:
    """Returns how many bytes at the beginning are the same, of two that differ."""
    low, high = 0, len(old)
    while low < high:
        middle = (low + high + 1) // 2
        if old[:middle] == new[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _facts(image: Any) -> dict[str, Any]:
    return {"format": image.format, "width": image.width, "height": image.height, "mode": image.mode}


def _words(image: Any) -> str:
    return f"{image.format} {image.width} x {image.height} {image.mode}"
