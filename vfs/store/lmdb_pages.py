"""The pages of an LMDB 0.9 file, walked from outside: LMDB itself believes the number and the kind that a page says.

No reader finds a page with a wrong number, and it misleads the next writer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

_META = struct.Struct("<16xIIQQ48s48sQQ")
_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")
_NUMBER = struct.Struct("<Q")
_ROOT_AT = 40
"""Of a tree's head, which has 48 bytes."""
_NONE = (1 << 64) - 1
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_IS_BIG, _IS_TREE = 1, 2

Read = Callable[[int], bytes]
"""Returns a page."""


def page_fault(read: Read, transaction: int) -> str:
    """Returns the damage of a page of the state that a transaction wrote; nothing for a whole one.

    The caller has a reader open, so that no page of it is used again.
    """
    heads = [_META.unpack_from(read(number)) for number in (0, 1)]
    for *_, free, main, last, written in heads:
        if written == transaction:
            return next(_faults(read, [_root(free), _root(main)], last), "")
    return ""


def _root(head: bytes) -> int:
    return int(_NUMBER.unpack_from(head, _ROOT_AT)[0])


def _faults(read: Read, roots: list[int], last: int) -> Iterator[str]:
    todo = [root for root in roots if root != _NONE]
    while todo:
        number = todo.pop()
        if not 1 < number <= last:
            yield f"a page {number} that there is not"
            continue
        page = read(number)
        said, _, kind, lower, upper = _PAGE.unpack_from(page)
        if said != number or kind not in (_BRANCH, _LEAF, _OVERFLOW):
            yield f"page {number} says that it is another one"
        elif kind != _OVERFLOW:
            if not _PAGE.size <= lower <= upper <= len(page):
                yield f"page {number} has an impossible size"
            else:
                todo.extend(_below(page, kind, lower))


def _below(page: bytes, kind: int, lower: int) -> Iterator[int]:
    """Yields the pages that a page names."""
    for (at,) in struct.iter_unpack("<H", page[_PAGE.size : lower // 2 * 2]):
        if at + _NODE.size > len(page):
            yield _NONE
            continue
        low, high, flags, key_bytes = _NODE.unpack_from(page, at)
        data = at + _NODE.size + key_bytes
        if kind == _BRANCH:
            yield low | high << 16 | flags << 32
        elif flags & _IS_TREE:
            root = _root(page[data : data + 48].ljust(48, b"\0"))
            if root != _NONE:
                yield root
        elif flags & _IS_BIG:
            yield _NUMBER.unpack_from(page[data : data + 8].ljust(8, b"\0"))[0]
