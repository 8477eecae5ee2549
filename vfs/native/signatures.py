"""The functions, structures and callbacks of the native session layer as ctypes needs them: session.h has them too."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any


class CFile(ctypes.Structure):
    """`struct session_file`."""

    _fields_ = (
        ("position", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("check", ctypes.c_uint32),
        ("found", ctypes.c_uint32),
    )


class CFirstRead(ctypes.Structure):
    """`struct session_first_read`."""

    _fields_ = (("ino", ctypes.c_uint64), ("kind", ctypes.c_uint32), ("begun", ctypes.c_uint32))


class CPack(ctypes.Structure):
    """`struct session_pack`."""

    _fields_ = (("number", ctypes.c_uint32), ("descriptor", ctypes.c_int32))


class CRecord(ctypes.Structure):
    """`struct open_record`."""

    _fields_ = (
        ("time_ns", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("thread", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
    )


class CCounts(ctypes.Structure):
    """`struct session_counts`."""

    _fields_ = (("answered", ctypes.c_uint64), ("passed_on", ctypes.c_uint64))


class CRead(ctypes.Structure):
    """`struct session_read`."""

    _fields_ = (
        ("unique", ctypes.c_uint64),
        ("ino", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("size", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


OpenLeafFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_char_p)
OpenLeafAtFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64)
AdmitDirectoryFunction = ctypes.CFUNCTYPE(
    ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint32
)
FindAttributesFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64)
AdmittedFunction = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_int)
CrossedFunction = ctypes.CFUNCTYPE(None)
FreedFunction = ctypes.CFUNCTYPE(None, ctypes.c_uint32)
LocatedFunction = ctypes.CFUNCTYPE(None)
LocateFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)


class CNameSource(ctypes.Structure):
    """`struct session_name_source`."""

    _fields_ = (
        ("open_leaf", OpenLeafFunction),
        ("open_leaf_at", OpenLeafAtFunction),
        ("admit_directory", AdmitDirectoryFunction),
        ("find_attributes", FindAttributesFunction),
        ("admitted", AdmittedFunction),
    )


class CKnownCount(ctypes.Structure):
    """`struct session_known_count`: how many files the kernel knows, as a NameCount tells it (vfs/fuse)."""

    count: int
    added: int
    limit: int
    floor: int
    on_crossing: Callable[[], object]
    table: object
    _fields_ = (
        ("count", ctypes.c_int64),
        ("added", ctypes.c_int64),
        ("limit", ctypes.c_int64),
        ("floor", ctypes.c_int64),
    )

    @property
    def dropped(self) -> int:
        """How many were ever dropped."""
        return self.added - self.count


class CKnown(ctypes.Structure):
    """`struct session_known`."""

    _fields_ = (
        ("position", ctypes.c_uint64),
        ("lookups", ctypes.c_uint64),
        ("record", ctypes.c_uint64),
        ("check", ctypes.c_uint32),
        ("slot", ctypes.c_uint32),
        ("is_marked", ctypes.c_uint32),
        ("unused", ctypes.c_uint32),
    )


_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "session_attach": (None, (ctypes.c_int, _U32, _U64)),
    "session_detach": (None, ()),
    "session_set_recording": (None, (ctypes.c_int,)),
    "session_know_thread": (None, (_U32, _U32)),
    "session_forget_thread": (None, (_U32,)),
    "session_take_records": (ctypes.c_size_t, (ctypes.POINTER(CRecord), ctypes.c_size_t)),
    "session_get_counts": (CCounts, ()),
    "session_has_requests": (ctypes.c_int, ()),
    "session_serve_reads": (ctypes.c_int, (LocateFunction, LocatedFunction)),
    "session_drop_places": (None, ()),
    "session_prepare": (ctypes.c_int, (_U64, _U64, _U64, ctypes.c_char_p)),
    "session_prepare_at": (ctypes.c_int, (_U64, _U64, _U64)),
    "session_leaf_begin": (ctypes.c_int, (_U64, _U64)),
    "session_leaf_next_list": (ctypes.c_int, (ctypes.c_char_p,)),
    "session_leaf_take_block": (None, (ctypes.c_char_p, ctypes.c_char_p, _U32, ctypes.c_char_p, _U32)),
    "session_leaf_take_list": (None, (ctypes.c_char_p, _U32)),
    "session_leaf_chunks": (_U32, (_U64, _U64, ctypes.c_int, ctypes.c_char_p)),
    "session_locate_leaf": (ctypes.c_int, (_U64, _U64, ctypes.c_char_p, _U32, ctypes.POINTER(CPack), _U32)),
    "session_give": (None, (_U64, ctypes.c_char_p, _U32)),
    "session_take_first_reads": (_U32, (ctypes.POINTER(CFirstRead), _U32)),
    "session_find_files": (None, (_U64, ctypes.POINTER(CFile), _U32)),
    "session_prefetch": (_U32, (_U64, ctypes.POINTER(CFile), _U32, _U64)),
    "session_looked_up": (ctypes.c_int, (_U64,)),
    "session_opened": (None, (_U64,)),
    "session_forget_first_reads": (None, ()),
    "session_watch": (None, (_U64, ctypes.c_int)),
    "session_serve_names": (None, (ctypes.POINTER(CNameSource), ctypes.c_void_p)),
    "session_keep_leaf": (ctypes.c_int, (_U64, _U32, _U64, ctypes.c_char_p, _U32, ctypes.c_char_p, _U32, ctypes.c_int)),
    "session_find_entry": (ctypes.c_void_p, (_U64, _U64, _U64, ctypes.POINTER(_U32))),
    "session_drop_leaves": (None, (_U64,)),
    "session_keep_attributes": (ctypes.c_int, (_U64, _U32, ctypes.c_char_p, _U32)),
    "session_files_new": (ctypes.c_void_p, (CrossedFunction, FreedFunction)),
    "session_files_free": (None, (ctypes.c_void_p,)),
    "session_files_are_derived": (None, (ctypes.c_void_p, ctypes.c_int)),
    "session_files_count": (ctypes.POINTER(CKnownCount), (ctypes.c_void_p,)),
    "session_files_hold": (ctypes.c_int, (ctypes.c_void_p, _U64, _U32, _U32, _U64)),
    "session_files_find": (ctypes.c_int, (ctypes.c_void_p, _U64, ctypes.POINTER(CKnown))),
    "session_files_forget": (ctypes.c_int, (ctypes.c_void_p, _U64, _U64)),
    "session_files_take_forgets": (None, (ctypes.c_void_p, ctypes.c_int)),
    "session_files_mark": (None, (ctypes.c_void_p, _U64)),
    "session_files_hold_directory": (ctypes.c_int, (ctypes.c_void_p, _U32)),
    "session_files_forget_directory": (ctypes.c_int, (ctypes.c_void_p, _U32)),
    "session_files_list": (_U32, (ctypes.c_void_p, _U32, ctypes.POINTER(_U64), _U32)),
    "session_files_record": (None, (ctypes.c_void_p, ctypes.c_int, _U64)),
    "session_files_records_bytes": (_U64, (ctypes.c_void_p, ctypes.c_int, _U64, _U64)),
    "session_files_write_records": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int, _U64, _U64, _U64)),
    "session_files_set_record": (ctypes.c_int, (ctypes.c_void_p, _U64, _U64)),
    "session_returned_event": (ctypes.c_int, ()),
    "session_take_returned": (ctypes.c_int, (ctypes.POINTER(CRead),)),
    "session_answer": (None, (_U64, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)),
}
"""What each function returns and takes."""


def declare(library: Any) -> None:
    """Tells ctypes the types of a loaded library's functions."""
    for name, (returned, taken) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returned, taken
