"""Images drawn anew: always PNG, whatever the file holds, and never what is too large."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from support.contents import Bytes
from vfs.formats.detail import NotThisFormat
from vfs.formats.pictures import difference, image_facts, picture


def encoded(image: Image.Image, kind: str = "PNG") -> Bytes:
    written = io.BytesIO()
    image.save(written, kind)
    return Bytes(written.getvalue())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "LA"])
def test_every_mode_becomes_a_small_png(mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "F", "I;16") else "PNG"
    source = encoded(Image.new(mode, (300, 150)), kind)
    assert image_facts(source)[1:3] == (300, 150)
    drawn = Image.open(io.BytesIO(picture(source, 100)))
    assert (drawn.format, drawn.size) == ("PNG", (100, 50))


def test_a_difference_is_black_where_nothing_differs() -> None:
    old = Image.new("RGB", (20, 10), (10, 20, 30))
    new = old.copy()
    new.putpixel((3, 4), (60, 20, 30))
    drawn = Image.open(io.BytesIO(difference(encoded(old), encoded(new), 100)))
    lit = [(x, y) for x in range(20) for y in range(10) if drawn.getpixel((x, y)) != (0, 0, 0)]
    assert lit == [(3, 4)]
    assert drawn.getpixel((3, 4)) == (200, 0, 0)


def test_what_is_no_image_damaged_or_too_large_is_refused() -> None:
    whole = encoded(Image.effect_noise((64, 64), 50)).read(0, 1 << 20)
    bomb = bytearray(encoded(Image.new("1", (8, 8))).read(0, 1 << 20))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + bytes(bomb[24:29])
    bomb[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    svg = b"<svg><script>alert(1)</script></svg>"
    for data in (svg, b"", b"\x89PNG\r\n", whole[: len(whole) // 2], bytes(bomb)):
        with pytest.raises(NotThisFormat):
            picture(Bytes(data), 100)


def test_images_of_other_dimensions_have_no_difference() -> None:
    with pytest.raises(NotThisFormat):
        difference(encoded(Image.new("L", (5, 5))), encoded(Image.new("L", (6, 5))), 100)
