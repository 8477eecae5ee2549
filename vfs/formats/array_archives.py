"""Arrays in ZIP archives: the members of `.npz`, and of the archives that PyTorch writes. Nothing is unpickled."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from vfs.formats.array_headers import Array, Arrays, npy_array, npy_header
from vfs.formats.detail import NotThisFormat, Readable, Stream

_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error)


def members(source: Readable, *, with_arrays: bool) -> Arrays:
    """Returns the members by name: those called `.npy` as arrays where there are some, others as bytes.

    The directory that PyTorch puts around all members is left out of their names. Raises NotThisFormat.
    """
    try:
        archive = zipfile.ZipFile(io.BufferedReader(Stream(source)))
        infos = archive.infolist()
    except (*_DAMAGES, NotImplementedError):
        raise NotThisFormat("it is no ZIP archive that can be read") from None
    top = _top(infos) if not with_arrays else ""
    found: dict[str, Array] = {}
    for info in infos:
        name = _label(info.filename.removeprefix(top), with_arrays, found)
        found[name] = _member(source, archive, info, with_arrays=with_arrays)
    facts = {
        "name of the outer directory": top,
        "compression": {info.filename.removeprefix(top): info.compress_type for info in infos},
        "order of the members": [info.filename.removeprefix(top) for info in infos],
        "times of the members": sorted(info.date_time for info in infos),
        "headers of the members": sorted((info.filename.removeprefix(top), info.extra, info.comment) for info in infos),
        "comment": archive.comment,
    }
    return Arrays(found, facts)


def _top(infos: list[zipfile.ZipInfo]) -> str:
    tops = {info.filename.partition("/")[0] for info in infos}
    is_one = len(tops) == 1 and all("/" in info.filename for info in infos)
    return f"{tops.pop()}/" if is_one else ""


def _label(name: str, with_arrays: bool, taken: dict[str, Array]) -> str:
    plain = name.removesuffix(".npy") if with_arrays else name
    label, nth = plain, 1
    while label in taken:
        nth += 1
        label = f"{plain} ({nth})"
    return label


def _member(source: Readable, archive: zipfile.ZipFile, info: zipfile.ZipInfo, *, with_arrays: bool) -> Array:
    reason = "it is encrypted" if info.flag_bits & 1 else ""
    if with_arrays and not reason and info.filename.endswith(".npy"):
        try:
            return _Unpacked(archive, info).array(source)
        except NotThisFormat as why:
            reason = str(why)
    unpacked = _Unpacked(archive, info)
    size = info.file_size
    words = f"{size:,} bytes" if not reason else "unreadable"
    return Array(words, (size,), "bytes", source, unpacked.read, size, is_array=False, uncompared=reason)


class _Unpacked:
    """A member that is read in sequence, from its beginning as often as need be."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._archive, self._info = archive, info
        self._member: Any = None
        self._at = 0
        self._start = 0

    def array(self, source: Readable) -> Array:
        """Returns the member as the `.npy` that it is. Raises NotThisFormat."""
        header = npy_header(self._forward)
        self._start = self._at
        return npy_array(header, source, self.read, self._info.file_size - self._start, -1)

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes behind the header. Raises NotThisFormat for damage."""
        if offset + self._start != self._at:
            self._member, self._at = None, 0
            self._forward(offset + self._start)
        data = self._forward(size)
        if len(data) != size:
            raise NotThisFormat("it is cut short")
        if self._at >= self._info.file_size:
            # Archives may have thousands of members: those that were read release their buffers.
            self._member, self._at = None, 0
        return data

    def _forward(self, size: int) -> bytes:
        try:
            if self._member is None:
                self._member, self._at = self._archive.open(self._info), 0
            data: bytes = self._member.read(size)
        except NotImplementedError:
            raise NotThisFormat("its compression is not known") from None
        except (*_DAMAGES, RuntimeError):
            raise NotThisFormat("its member is damaged") from None
        self._at += len(data)
        return data
