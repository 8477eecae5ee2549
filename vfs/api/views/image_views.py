"""Images of a version, re-encoded and cached by content: what a file holds never reaches a browser."""

from __future__ import annotations

from typing import TypedDict

from vfs.api.views.viewed_repository import OpenedFile, ViewedRepository
from vfs.formats import thumbnails
from vfs.formats.detail import NotThisFormat
from vfs.formats.thumbnails import difference, image_facts, picture
from vfs.model.objects import Version

THUMBNAIL = 160
PICTURE = 1400
EDGES = (THUMBNAIL, PICTURE)
"""The longest edges that images are drawn with, in pixels."""


class ImageDocument(TypedDict):
    """What an image's header says; `problem` says why it cannot be drawn, everything else is empty then."""

    format: str
    width: int
    height: int
    mode: str
    problem: str


def image(viewed: ViewedRepository, version: Version, path: bytes) -> ImageDocument:
    """Returns what an image's header says. Raises NotFound."""
    with viewed.file(version, path) as opened:
        try:
            facts = image_facts(opened.reader)
        except NotThisFormat as reason:
            return {"format": "", "width": 0, "height": 0, "mode": "", "problem": str(reason)}
    return {"format": facts.format, "width": facts.width, "height": facts.height, "mode": facts.mode, "problem": ""}


def drawn(viewed: ViewedRepository, version: Version, path: bytes, edge: int) -> tuple[bytes, str] | None:
    """Returns a drawn image and a tag of its content, or None where it cannot be drawn. Raises NotFound."""
    with viewed.file(version, path) as opened:
        tag = _tag(opened, edge)
        if tag not in viewed.pictures:
            try:
                viewed.keep_picture(tag, picture(opened.reader, edge, is_quick=edge == THUMBNAIL))
            except NotThisFormat:
                return None
        data = viewed.pictures.get(tag)
        return (data, tag) if data is not None else None


def media_type(data: bytes) -> str:
    """Returns the media type of a drawn image."""
    return thumbnails.media_type(data)


def drawn_difference(viewed: ViewedRepository, old: Version, new: Version, path: bytes) -> tuple[bytes, str] | None:
    """Returns where two images differ as PNG and a tag, or None where that cannot be drawn. Raises NotFound."""
    with viewed.file(old, path) as before, viewed.file(new, path) as now:
        tag = f"{_tag(before, PICTURE)}-{_tag(now, PICTURE)}"
        if tag not in viewed.pictures:
            try:
                viewed.keep_picture(tag, difference(before.reader, now.reader, PICTURE))
            except NotThisFormat:
                return None
        data = viewed.pictures.get(tag)
        return (data, tag) if data is not None else None


def _tag(opened: OpenedFile, edge: int) -> str:
    return f"{opened.key}-{edge}"
