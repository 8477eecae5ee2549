"""Images drawn anew: small, turned as the camera was, without what a file says beside its pixels."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from support.contents import Bytes
from vfs.formats.detail import NotThisFormat
from vfs.formats.thumbnails import difference, media_type, picture


def _file(image: Image.Image, form: str, **options: object) -> Bytes:
    written = io.BytesIO()
    image.save(written, form, **options)
    return Bytes(written.getvalue())


def _shown(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("size", [(1280, 960), (960, 1280), (4000, 30), (7, 5), (161, 160)])
def test_a_thumbnail_of_a_jpeg_is_a_jpeg_within_the_edge(size: tuple[int, int]) -> None:
    thumbnail = picture(_file(Image.new("RGB", size, "red"), "JPEG"), 160, is_quick=True)
    assert media_type(thumbnail) == "image/jpeg"
    shown = _shown(thumbnail)
    scale = min(160 / max(size), 1)
    assert all(abs(new - max(old * scale, 1)) <= 1 for old, new in zip(size, shown.size, strict=True))
    red, green, _ = shown.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    assert red > 240
    assert green < 20


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("GIF", "P")]
)
def test_what_has_no_loss_stays_without_one(form: str, mode: str) -> None:
    thumbnail = picture(_file(Image.new(mode, (300, 200), 9 if len(mode) == 1 or ";" in mode else "red"), form), 160)
    assert media_type(thumbnail) == "image/png"
    assert _shown(thumbnail).size == (160, 107)


def test_a_picture_is_turned_as_the_camera_was_and_says_nothing_of_it() -> None:
    wide = Image.new("RGB", (400, 200), "blue")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker of the camera"
    for is_quick in (False, True):
        data = picture(_file(wide, "JPEG", exif=exif), 160, is_quick=is_quick)
        assert _shown(data).size == (80, 160)
        assert b"maker" not in data
    assert b"maker" not in picture(_file(wide, "PNG", exif=exif), 160)


def test_damaged_words_of_the_camera_hide_no_picture() -> None:
    data = picture(_file(Image.new("RGB", (40, 20)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), 160)
    assert _shown(data).size == (40, 20)


def test_images_that_declare_more_than_is_drawn_are_refused() -> None:
    file = _file(Image.new("L", (10, 10)), "PNG")
    whole = bytearray(file.read(0, file.size))
    whole[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(NotThisFormat):
        picture(Bytes(bytes(whole)), 160)
    with pytest.raises(NotThisFormat):
        difference(file, Bytes(b"no image"), 160)


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "RGB", "P", "1"])
def test_a_large_image_is_reduced_in_strips(mode: str) -> None:
    small = Image.linear_gradient("L").convert("L" if mode == "I;16" else mode)
    large = small.resize((2560, 1280), Image.Resampling.NEAREST).convert(mode)
    shown = _shown(picture(_file(large, "PNG"), 160)).convert("L")
    assert shown.size == (160, 80)
    column = [shown.getpixel((80, y)) for y in range(0, 80, 13)]
    assert column == sorted(column)  # type: ignore[type-var]
    assert column[0] < 30  # type: ignore[operator]
    assert column[-1] > 220  # type: ignore[operator]
