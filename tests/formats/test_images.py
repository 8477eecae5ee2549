"""Goal: pixels are called the same where every one that the files store is, and other differences are named."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from support.contents import Bytes, compared
from vfs.formats.detection import describe

CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4, "I;16": 2, "I": 4, "F": 4, "CMYK": 4}
MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK"],
    "BMP": ["1", "L", "P", "RGB"],
    "PPM": ["1", "L", "RGB"],
}
ENDINGS = {"PNG": "png", "TIFF": "tiff", "BMP": "bmp", "PPM": "ppm", "GIF": "gif", "WEBP": "webp", "JPEG": "JPG"}


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(mode: str, colour: Any, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def frames(kind: str, colours: Sequence[Any], mode: str = "RGB", **options: Any) -> bytes:
    first, *rest = [plain(mode, colour) for colour in colours]
    return encoded(first, kind, save_all=True, append_images=rest, **options)


def painted(index: int, palette: Sequence[int], **options: Any) -> bytes:
    image = plain("P", index)
    image.putpalette([*palette, *[0] * (768 - len(palette))])
    return encoded(image, **options)


def test_dimensions_and_where_pixels_differ_are_shown() -> None:
    small, large = encoded(plain("RGB", 0, (4, 3))), encoded(plain("L", 0, (8, 6)))
    assert compared("i.png", small, large).lines == ["PNG 4 x 3 RGB → PNG 8 x 6 L"]
    dotted = plain("L", 0, (9, 9))
    dotted.putpixel((2, 7), 255)
    dotted.putpixel((4, 3), 1)
    detail = compared("i.png", encoded(plain("L", 0, (9, 9))), encoded(dotted))
    assert detail.lines == ["PNG 9 x 9 L, pixels differ within 3 x 5 at (2, 3)"]
    assert detail.value["box"] == [2, 3, 5, 8]


DIFFERENT = [
    ("colours of RGBA", "i.png", encoded(plain("RGBA", (0, 0, 0, 255))), encoded(plain("RGBA", (255, 0, 0, 255)))),
    ("colours of LA", "i.png", encoded(plain("LA", (0, 255))), encoded(plain("LA", (200, 255)))),
    ("what is invisible", "i.png", encoded(plain("RGBA", (1, 0, 0, 0))), encoded(plain("RGBA", (2, 0, 0, 0)))),
    (
        "numbers of one colour",
        "i.png",
        painted(1, [0, 0, 0, 9, 9, 9, 9, 9, 9]),
        painted(2, [0, 0, 0, 9, 9, 9, 9, 9, 9]),
    ),
    ("palette", "i.png", painted(1, [0, 0, 0, 255, 0, 0]), painted(1, [0, 0, 0, 0, 255, 0])),
    (
        "palette's transparency",
        "i.png",
        painted(1, [1], transparency=b"\xff\xff"),
        painted(1, [1], transparency=b"\xff\0"),
    ),
    ("transparent grey", "i.png", encoded(plain("L", 5)), encoded(plain("L", 5), transparency=5)),
    ("16 bits", "i.png", encoded(plain("I;16", 256)), encoded(plain("I;16", 257))),
    ("one bit", "i.png", encoded(plain("1", 0)), encoded(plain("1", 1))),
    ("floats", "i.tif", encoded(plain("F", 1.0), "TIFF"), encoded(plain("F", 1.0000001), "TIFF")),
    ("a later page", "i.tif", frames("TIFF", [0, 1], "L"), frames("TIFF", [0, 200], "L")),
    ("a later frame of GIF", "i.gif", frames("GIF", [0, 1, 9], "L"), frames("GIF", [0, 200, 9], "L")),
    ("a later frame of PNG", "i.png", frames("PNG", ["red", "blue"]), frames("PNG", ["red", "green"])),
    (
        "a later frame of WebP",
        "i.webp",
        frames("WEBP", ["red", "blue"], lossless=True),
        frames("WEBP", ["red", "green"], lossless=True),
    ),
    ("number of frames", "i.gif", frames("GIF", [0, 1, 9], "L"), frames("GIF", [0, 1], "L")),
    ("JPEG", "i.jpeg", encoded(plain("RGB", "red"), "JPEG"), encoded(plain("RGB", "blue"), "JPEG")),
]


@pytest.mark.parametrize(("name", "old", "new"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT])
def test_no_difference_of_pixels_is_overlooked(name: str, old: bytes, new: bytes) -> None:
    line = compared(name, old, new).lines[0]
    assert "the same" not in line
    assert "differ" in line or "→" in line
    assert "the same pixels" in compared(name, old, old + b"\0").lines[0]


def _with_text(value: str) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", value)
    return encoded(plain("RGB", 0), pnginfo=text)


def _oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(plain("RGB", 0), "JPEG", exif=exif)


METADATA = [
    ("EXIF", "i.jpg", _oriented(1), _oriented(6), "metadata differs: EXIF"),
    (
        "colour profile",
        "i.png",
        encoded(plain("RGB", 0)),
        encoded(plain("RGB", 0), icc_profile=b"x" * 200),
        "metadata differs: colour profile",
    ),
    ("text", "i.png", _with_text("a"), _with_text("b"), "metadata differs: Comment"),
    (
        "durations",
        "i.png",
        frames("PNG", ["red", "blue"]),
        frames("PNG", ["red", "blue"], duration=9),
        "metadata differs: durations of frames",
    ),
    ("level", "i.png", encoded(plain("RGB", 0)), encoded(plain("RGB", 0), compress_level=0), "written differently"),
    (
        "compression",
        "i.tif",
        encoded(plain("RGB", 0), "TIFF"),
        encoded(plain("RGB", 0), "TIFF", compression="tiff_lzw"),
        "metadata differs: Compression, compression",
    ),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "words"), [case[1:] for case in METADATA], ids=[case[0] for case in METADATA]
)
def test_of_the_same_pixels_it_is_said_what_does_differ(name: str, old: bytes, new: bytes, words: str) -> None:
    detail = compared(name, old, new)
    assert "the same pixels" in detail.lines[0]
    assert detail.lines[1] == words
    assert detail.value["pixels_differ"] is False


def test_images_of_another_mode_have_the_same_colours_or_are_not_compared() -> None:
    colours = compared("i.png", encoded(plain("RGB", (1, 2, 3))), encoded(plain("RGBA", (1, 2, 3, 255))))
    assert colours.lines[0] == "PNG 8 x 8 RGB → PNG 8 x 8 RGBA, the same colours"
    seen = compared("i.png", encoded(plain("RGB", (1, 2, 3))), encoded(plain("RGBA", (1, 2, 3, 254))))
    assert "pixels differ" in seen.lines[0]
    deep = compared("i.png", encoded(plain("L", 1)), encoded(plain("I;16", 257)))
    assert deep.lines == ["PNG 8 x 8 L → PNG 8 x 8 I;16, pixels of mode L and I;16 are not compared"]


def deep_png(values: Sequence[int], colour_type: int) -> bytes:
    """Returns a PNG of one row with 16 bits a sample, which the library decodes to 8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    samples = {2: 3, 4: 2, 6: 4}[colour_type]
    header = struct.pack(">IIBBBBB", len(values) // samples, 1, 16, colour_type, 0, 0, 0)
    data = zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_bits_that_are_not_decoded_are_not_called_the_same(colour_type: int) -> None:
    old = deep_png([0x1234] * 12, colour_type)
    low = compared("i.png", old, deep_png([0x1235] * 12, colour_type))
    assert "the same" not in " ".join(low.lines)
    assert low.lines[1].startswith("not compared pixel by pixel: ")
    assert "pixels differ" in compared("i.png", old, deep_png([0x4234] * 12, colour_type)).lines[0]


def test_deep_ppm_is_not_called_the_same() -> None:
    old, new = (b"P6 1 1 65535\n" + struct.pack(">HHH", 0x1234, 1, value) for value in (0x0102, 0x0103))
    assert "the same" not in " ".join(compared("i.ppm", old, new).lines)


def test_damaged_and_large_images_are_not_compared_and_the_reason_is_said() -> None:
    whole = encoded(plain("RGB", 0, (40, 40)), compress_level=0)
    cut = compared("i.png", whole[:2000], whole)
    assert cut.lines == ["PNG 40 x 40 RGB", "not compared pixel by pixel: the decoder says 'image file is truncated'"]
    assert compared("i.png", b"no image", b"nor this").lines[0] == (
        "not compared pixel by pixel: it is no image that can be read"
    )
    huge = encoded(plain("1", 0, (6000, 5000)))
    assert (
        compared("i.png", huge, huge + b"\0").lines[1] == "not compared pixel by pixel: 30,000,000 pixels are too many"
    )
    assert "the same pixels" in compared("i.png", huge, huge + b"\0", patient=True).lines[0]
    bomb = b"P5 100000 100000 255\n"
    assert compared("i.pgm", bomb, bomb + b"\0").lines[0] == "not compared pixel by pixel: it has too many pixels"
    assert describe(b"i.png", Bytes(huge, 1 << 40), Bytes(huge, 2 << 40)).lines[1].startswith("not compared")


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[str, str, bytes, bytes]:
    """Returns a format, a mode and the bytes of the pixels of two images of 5 x 3."""
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    size = 3 if mode == "1" else 15 * CHANNELS[mode]
    old = draw(st.binary(min_size=size, max_size=size))
    at = draw(st.integers(0, size - 1))
    new = draw(st.sampled_from([old, old[:at] + bytes([old[at] ^ draw(st.integers(1, 255))]) + old[at + 1 :]]))
    return kind, mode, old, new


@settings(max_examples=200)
@given(_pairs())
def test_pixels_are_the_same_where_their_bytes_are(pair: tuple[str, str, bytes, bytes]) -> None:
    kind, mode, old, new = pair
    images = [Image.frombytes(mode, (5, 3), data) for data in (old, new)]
    if mode == "P":
        for image in images:
            image.putpalette(bytes(range(256)) * 3)
    # What is behind the last pixel of a row of bits is in no file.
    was, now = (list(image.get_flattened_data()) if mode == "1" else image.tobytes() for image in images)
    detail = compared(f"i.{ENDINGS[kind]}", encoded(images[0], kind), encoded(images[1], kind) + b"\0")
    assert ("the same pixels" in detail.lines[0]) == (was == now), detail.lines
    assert ("pixels differ" in detail.lines[0]) == (was != now), detail.lines
