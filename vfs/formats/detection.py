"""Which module describes a file: by the ending of its name, and by its bytes where they are of another kind."""

from __future__ import annotations

from vfs.formats import arrays, images, json_documents, tables, text_diff
from vfs.formats.detail import Detail, NotThisFormat, Readable
from vfs.formats.json_values import NESTED_TOO_DEEP
from vfs.formats.quantities import human_size
from vfs.store.trees.file_reader import FileReader

_UNREAD = {
    (b".h5", b".hdf5", b".hdf", b".he5"): "nothing here reads HDF5",
    (b".pkl", b".pickle", b".joblib"): "pickled objects are not loaded",
    (b".arrow", b".feather", b".orc", b".avro"): "nothing here reads tables of this format",
    (b".zip", b".tar", b".gz", b".bz2", b".xz", b".zst", b".7z"): "archives and compressed files are not unpacked",
}
"""Formats that are known, and why they are not looked into."""


def describe(name: bytes, old: Readable, new: Readable, key: str | None = None, *, patient: bool = False) -> Detail:
    """Returns what differs between two contents of a file of this name. `key` is a column that tables are followed by.

    What takes longer than some seconds is done where the caller is `patient`. A file that is not what its name says is
    described as lines, or as bytes where it is no text; that it was not compared as what its name says comes first.
    """
    lowered = name.lower()
    note = ""
    try:
        return _by_name(lowered, old, new, key, patient=patient)
    except NotThisFormat as reason:
        if str(reason):
            note = (
                f"not compared {_how(lowered)}: {text_diff.shown_line(str(reason).encode('utf-8', 'backslashreplace'))}"
            )
    except RecursionError:
        note = f"not compared {_how(lowered)}: {NESTED_TOO_DEEP}"
    try:
        detail = text_diff.describe(old, new)
    except NotThisFormat:
        words, value = _bytes(old, new)
        if note:
            return Detail("not-compared", [note, words], {**value, "reason": note})
        return Detail("binary", [f"binary, {words}"], value)
    return Detail(detail.kind, [note, *detail.lines], {**detail.value, "reason": note}) if note else detail


def _by_name(name: bytes, old: Readable, new: Readable, key: str | None, *, patient: bool) -> Detail:
    if name.endswith(tables.ENDINGS):
        return tables.describe(name, old, new, key, patient=patient)
    if name.endswith(images.ENDINGS):
        return images.describe(old, new, patient=patient)
    if name.endswith(arrays.ENDINGS):
        return arrays.describe(name, old, new, patient=patient)
    if name.endswith(b".json"):
        return json_documents.describe(old, new)
    raise NotThisFormat(next((reason for endings, reason in _UNREAD.items() if name.endswith(endings)), ""))


def _how(name: bytes) -> str:
    if name.endswith(tables.ENDINGS):
        return "row by row"
    if name.endswith(images.ENDINGS):
        return "pixel by pixel"
    if name.endswith(arrays.ENDINGS):
        return "value by value"
    return "key by key" if name.endswith(b".json") else "inside"


def _bytes(old: Readable, new: Readable) -> tuple[str, dict[str, int]]:
    """Returns the sizes of other files, or how many bytes are new where chunks tell."""
    value = {"old_bytes": old.size, "new_bytes": new.size}
    if isinstance(old, FileReader) and isinstance(new, FileReader):
        known = {ref.id for _, ref in old.refs()}
        fresh = sum(ref.size for _, ref in new.refs() if ref.id and ref.id not in known)
        if known and 0 < fresh < new.size:
            words = f"{human_size(fresh)} of {human_size(new.size)} in chunks that the old side lacks"
            return words, value | {"fresh_bytes": fresh}
    return f"{human_size(old.size)} → {human_size(new.size)}", value
