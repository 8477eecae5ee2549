"""Which module describes a file: by the ending of its name, and by its bytes where they are of another kind."""

from __future__ import annotations

from vfs.cli.formats import arrays, documents, images, tables, text
from vfs.cli.formats.detail import Detail, MissingExtra, NotThisFormat, Readable
from vfs.cli.output import human_size
from vfs.store.files import FileReader

_IMAGES = (b".png", b".jpg", b".jpeg", b".gif", b".bmp", b".tif", b".tiff", b".webp", b".ppm", b".pgm")
_ARRAYS = (b".npy", b".npz", b".safetensors")


def describe(name: bytes, old: Readable, new: Readable, key: str | None = None, *, patient: bool = False) -> Detail:
    """Returns what differs between two contents of a file of this name. `key` is a column that tables are followed by.

    What takes longer than some seconds is done where somebody is `patient`. A file that is not what its name says is
    described as lines, or as bytes where it is no text.
    """
    notes: list[str] = []
    try:
        return _by_name(name.lower(), old, new, key, patient=patient)
    except NotThisFormat:
        pass
    except MissingExtra as missing:
        notes.append(str(missing))
    try:
        detail = text.describe(old, new)
    except NotThisFormat:
        detail = _bytes(old, new)
    return Detail(detail.kind, [*detail.lines, *notes], detail.value)


def _by_name(name: bytes, old: Readable, new: Readable, key: str | None, *, patient: bool) -> Detail:
    if name.endswith(tables.ENDINGS):
        return tables.describe(name, old, new, key, patient=patient)
    if name.endswith(_IMAGES):
        return images.describe(old, new)
    if name.endswith(_ARRAYS):
        return arrays.describe(name, old, new)
    if name.endswith(b".json"):
        return documents.describe(old, new)
    raise NotThisFormat


def _bytes(old: Readable, new: Readable) -> Detail:
    """Says of other files how many bytes are new, where chunks tell."""
    value = {"old_bytes": old.size, "new_bytes": new.size}
    if isinstance(old, FileReader) and isinstance(new, FileReader):
        known = {ref.id for _, ref in old.refs()}
        fresh = sum(ref.size for _, ref in new.refs() if ref.id and ref.id not in known)
        if known and 0 < fresh < new.size:
            words = f"binary, {human_size(fresh)} of {human_size(new.size)} in chunks that the old side lacks"
            return Detail("binary", [words], value | {"fresh_bytes": fresh})
    return Detail("binary", [f"binary, {human_size(old.size)} → {human_size(new.size)}"], value)
