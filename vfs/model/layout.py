"""The grammar of the names that lead to versions, in a mount and in commands. They are parsed and built here alone.

    @VERSION                   a version, in the root of a mount and in every directory below it
    @A..@B  @A..               in the root: what differs between two versions, or a version and the working layer
    @/versions/vN  @/tags/NAME  @/branches/NAME        in the root: what there is, in lists
    FILE@@                     beside a file: the contents that it has had

VERSION, the text behind the mark, is a number `vN`, `latest`, the name of a tag or a branch, the first digits of a
commit's id, a day or a time, or one of them and `~N`: the N-th version before it. vfs/history/revision.py knows which
tags and branches exist, and finds the version that a text stands for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import AnyStr

import msgspec

from vfs.model.ids import SHORT_HEX

MARK = b"@"
"""What every name of a version starts with; alone, the directory of the lists."""
BETWEEN = b".."
"""What stands between the two ends of a range."""
HISTORY_ENDING = b"@@"
"""What stands behind a file's name in the name of its history."""
VERSIONS, TAGS, BRANCHES, RUNS = b"versions", b"tags", b"branches", b"runs"
"""The lists below `@`."""
LATEST = "latest"

_NEWEST = (LATEST, "HEAD")
RESERVED = frozenset({*_NEWEST, "head", *(name.decode() for name in (VERSIONS, TAGS, BRANCHES))})
"""Texts that name no tag and no branch, as they mean something else here."""

_NUMBER = r"v([1-9][0-9]{0,17})"
_LIKE_A_NUMBER = r"[vV][0-9]+"
_LIKE_A_MOMENT = r"\d{4}-\d{2}(-.*)?"
_DIGITS = rf"[0-9a-f]{{{SHORT_HEX},64}}"
_BACK = r"(.+?)((?:~[0-9]{0,18})+)"
_STEP = "~"
_SURE = rf"(v[0-9]+|{LATEST})({_STEP}[0-9]*)*"
MOMENT = (
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?: ?(?P<zone>Z|UTC|[+-]\d{2}(?::?\d{2})?))?"
)
"""A day or a time. These expressions are compiled when they are first used: together they take 2 ms."""


# What a text says that names a version.


class Number(msgspec.Struct, frozen=True):
    """`vN`: the branch's N-th version."""

    number: int

    def __str__(self) -> str:
        return f"v{self.number}"


class Newest(msgspec.Struct, frozen=True):
    """`latest`, and `HEAD` for users of git: the branch's newest version."""

    def __str__(self) -> str:
        return LATEST


class Digits(msgspec.Struct, frozen=True):
    """The first hexadecimal digits of a commit's id, 8 to 64, in lower case."""

    digits: str

    def __str__(self) -> str:
        return self.digits


class Moment(msgspec.Struct, frozen=True):
    """A day or a time, as `MOMENT` has it; the version is the last one up to its end."""

    text: str

    def __str__(self) -> str:
        return self.text


class RefName(msgspec.Struct, frozen=True):
    """Any other text: the name of a tag or of a branch, if there is one of that name."""

    name: str

    def __str__(self) -> str:
        return self.name


class Back(msgspec.Struct, frozen=True):
    """`START~N`: so many first parents before another version; `~` is `~1`, and several are added up."""

    start: Number | Newest | Digits | Moment | RefName
    steps: int

    def __str__(self) -> str:
        return f"{self.start}{_STEP}{self.steps}"


Revision = Number | Newest | Digits | Moment | RefName | Back
"""What a text says that names a version; `str` builds the text, `parse_revision` reads it."""


def parse_revision(text: str) -> Revision:
    """Returns what a text without its mark says; a text of no other form is the name of a tag or a branch."""
    split = split_steps(text)
    return _parse_start(text) if split is None else Back(_parse_start(split[0]), split[1])


def split_steps(text: str) -> tuple[str, int] | None:
    """Returns the start and the number of steps of a text that is `START~N`, else None."""
    back = re.fullmatch(_BACK, text)
    return None if back is None else (back[1], sum(int(step or 1) for step in back[2].split(_STEP)[1:]))


def _parse_start(text: str) -> Number | Newest | Digits | Moment | RefName:
    if text in _NEWEST:
        return Newest()
    if (number := re.fullmatch(_NUMBER, text)) is not None:
        return Number(int(number[1]))
    if re.fullmatch(_DIGITS, text.lower()):
        return Digits(text.lower())
    return Moment(text) if re.fullmatch(MOMENT, text) else RefName(text)


def is_surely_a_version(text: str) -> bool:
    """Returns True if a text is `latest` or like a number, with steps or without: it is not meant as a path."""
    return re.fullmatch(_SURE, text) is not None


def is_numbered(text: bytes) -> bool:
    """Returns True if a text is `vN` as it is built: without zeros before the number."""
    return text.isascii() and re.fullmatch(_NUMBER, text.decode("ascii")) is not None


def ref_name_objection(name: str) -> str:
    """Returns why a tag or a branch cannot have a name, as the name would mean something else; empty if it can."""
    if name in RESERVED:
        return f"`{name}` means something else"
    if any(text in name for text in ("/", "\\", MARK.decode(), BETWEEN.decode())):
        return "it contains one of `/`, `\\`, `@`, `..`"
    if re.fullmatch(_LIKE_A_NUMBER, name):
        return "it looks like a version number"
    if re.fullmatch(_DIGITS, name.lower()):
        return "it looks like a commit id"
    if re.fullmatch(_LIKE_A_MOMENT, name):
        return "it looks like a date"
    return ""


def has_steps(name: str) -> bool:
    """Returns True if a text contains what separates a version from the steps back from it."""
    return _STEP in name


# Names with a mark.


def is_marked(name: AnyStr) -> bool:
    """Returns True if a name starts with the mark."""
    return name[:1] in ("@", MARK)


def unmarked(name: AnyStr) -> AnyStr:
    """Returns a name without its mark, if it has one."""
    return name[1:] if is_marked(name) else name


def marked(text: bytes) -> bytes:
    """Returns the name in a mount of what a text names."""
    return MARK + text


def number_text(number: int) -> bytes:
    """Returns `vN`, the text of a branch's N-th version."""
    return b"v%d" % number


def number_of(text: bytes) -> int:
    """Returns N of a text that is `vN`, for which `is_numbered`."""
    return int(text[1:])


def split_range(text: bytes) -> tuple[bytes, bytes] | None:
    """Returns the ends of `A..B`, a text without its mark, or None. `B` may have a mark; it is empty in `A..`."""
    first, between, second = text.partition(BETWEEN)
    if not between:
        return None
    # A mark alone names no version, and not the working layer either.
    return first, second if second == MARK else unmarked(second)


def join_range(first: bytes, second: bytes) -> bytes:
    """Returns the name in a mount of the range between two texts; an empty second one is the working layer."""
    return marked(first) + BETWEEN + (marked(second) if second else b"")


def history_of(file: bytes) -> bytes:
    """Returns the name of a file's history."""
    return file + HISTORY_ENDING


def file_of(history: bytes) -> bytes:
    """Returns the name of the file whose history has a name."""
    return history.removesuffix(HISTORY_ENDING)


# Paths in a mount.


class Lists(msgspec.Struct, frozen=True):
    """`@`, or one of the lists in it."""

    name: bytes = b""

    def names(self) -> tuple[bytes, ...]:
        """Returns the names that lead there from the mount's root."""
        return (MARK, self.name) if self.name else (MARK,)


class Listed(msgspec.Struct, frozen=True):
    """`@/versions/vN`, `@/tags/NAME`, `@/branches/NAME`: an entry of a list."""

    list: bytes
    name: bytes

    def names(self) -> tuple[bytes, ...]:
        """Returns the names that lead there from the mount's root."""
        return MARK, self.list, self.name


class AtVersion(msgspec.Struct, frozen=True):
    """`@VERSION`."""

    text: bytes

    def names(self) -> tuple[bytes, ...]:
        """Returns the names that lead there from the mount's root."""
        return (marked(self.text),)


class AtRange(msgspec.Struct, frozen=True):
    """`@A..@B`, or with a part of it: `@A..@B/added`. `new` is empty for the working layer."""

    old: bytes
    new: bytes
    part: bytes = b""

    def names(self) -> tuple[bytes, ...]:
        """Returns the names that lead there from the mount's root."""
        name = join_range(self.old, self.new)
        return (name, self.part) if self.part else (name,)


Chosen = Lists | Listed | AtVersion | AtRange
"""What the first names of a path in a mount choose, in place of the branch that the root shows."""


class MountPath(msgspec.Struct, frozen=True):
    """A path in a mount, from its root: what its first names choose, None for none, and the names behind them."""

    chosen: Chosen | None
    rest: tuple[bytes, ...] = ()

    def names(self) -> tuple[bytes, ...]:
        """Returns all of its names."""
        return (*(self.chosen.names() if self.chosen is not None else ()), *self.rest)

    @property
    def position(self) -> bytes:
        """The path in the data."""
        return b"/".join(self.rest)

    @property
    def branch(self) -> bytes:
        """The branch whose working layer it is in; empty for the one in the mount's root, and in a version."""
        chosen = self.chosen
        return chosen.name if isinstance(chosen, Listed) and chosen.list == BRANCHES else b""


def parse_mount_path(names: Sequence[bytes]) -> MountPath:
    """Returns a path, given as its names from the mount's root, by what it leads to."""
    names = tuple(names)
    if not names or not is_marked(names[0]):
        return MountPath(None, names)
    first = names[0]
    if first == MARK:
        if len(names) > 2:
            return MountPath(Listed(names[1], names[2]), names[3:])
        return MountPath(Lists(*names[1:]))
    ends = split_range(first[1:])
    if ends is None:
        return MountPath(AtVersion(first[1:]), names[1:])
    return MountPath(AtRange(*ends, *names[1:2]), names[2:])


def branch_path(branch: str) -> bytes:
    """Returns the path in a mount of a branch that is not the one in the root."""
    return b"/".join(Listed(BRANCHES, branch.encode()).names())
