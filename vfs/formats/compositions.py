"""Which files are composed of rows of two versions: Parquet, and texts such as CSV and JSON Lines."""

from __future__ import annotations

from vfs.formats.detail import BytesReadable, NotThisFormat
from vfs.formats.parquet_composition import ParquetComposition
from vfs.formats.quantities import human_size
from vfs.text.line_composition import LineComposition, is_composable
from vfs.text.row_composition import FileComposition

FILE_BYTES_MAX = 64 << 20
"""Larger files are not looked into."""


def require_size(size: int) -> None:
    """Raises NotThisFormat for a file that is too large to be composed."""
    if size > FILE_BYTES_MAX:
        raise NotThisFormat(f"it is larger than {human_size(FILE_BYTES_MAX)}")


def composed(name: bytes, old: bytes, new: bytes) -> FileComposition:
    """Returns the changed rows between two contents of a file of this name.

    Raises NotThisFormat where no file can be made of a part of them, with the reason; MissingExtra.
    """
    if name.lower().endswith(b".parquet"):
        return ParquetComposition(BytesReadable(old), BytesReadable(new))
    if is_composable(old, new):
        return LineComposition(name, old, new)
    raise NotThisFormat("it is neither text nor Parquet")
