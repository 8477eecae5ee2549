"""The arguments of operations: one typed struct for each kind. The operation's kind is the tag of the union.

In the log they are one object of texts (docs/format.md, "Operation log"). For a new kind, add a struct here and a line
in `ARGS_OF_KIND`; its fields are texts, `int | None` or tuples of words. The log leaves out what has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

COUNT_DIGITS_MAX = 20


class LogArgs(msgspec.Struct, frozen=True, kw_only=True):
    """Arguments of an operation that has none of its own. `more`: names that this program does not know."""

    more: dict[str, str] = {}

    def kept_commits(self) -> Iterator[str]:
        """Yields the commits, in hex, that must exist for the operation to be undone."""
        yield from ()


class CommitLogArgs(LogArgs, frozen=True, kw_only=True):
    """A commit. `whole`: of one that left something out, the commit (in hex) that has all of the working layer."""

    whole: str = ""

    def kept_commits(self) -> Iterator[str]:
        """Yields the commits, in hex, that must exist for the operation to be undone."""
        if self.whole:
            yield self.whole


class LayerLogArgs(LogArgs, frozen=True, kw_only=True):
    """An operation that gave the working layer of `branch` other content. Commits in hex.

    `base`: the version that the layer stands on since; empty for nothing, None where the operation did not change it.
    `before` and `after`: commits with the trees that the layer showed before and shows since. `before` is empty where
    the content stayed or was not kept.
    """

    branch: str = ""
    base: str | None = None
    before: str = ""
    after: str = ""

    def kept_commits(self) -> Iterator[str]:
        """Yields the commits, in hex, that must exist for the operation to be undone."""
        yield from filter(None, (self.base, self.before, self.after))


class RestoreLogArgs(LayerLogArgs, frozen=True, kw_only=True):
    """A restore: the version in hex, how many paths, and the first of them for display."""

    version: str = ""
    paths: str = ""
    count: int | None = None


class MergeBeginLogArgs(LayerLogArgs, frozen=True, kw_only=True):
    """The beginning of a merge with conflicts: the name and the commit (in hex) of the other side."""

    name: str = ""
    theirs: str = ""


class MergeAbortLogArgs(LayerLogArgs, frozen=True, kw_only=True):
    """The end of a merge without a version: the name of the other side."""

    name: str = ""


class UndoLogArgs(LayerLogArgs, frozen=True, kw_only=True):
    """An undo: the number and the kind of the operation that it undoes."""

    undoes: int | None = None
    what: str = ""


class DescribeLogArgs(LogArgs, frozen=True, kw_only=True):
    """Another message or metadata of a version: its name."""

    version: str = ""


class ForgetLogArgs(LogArgs, frozen=True, kw_only=True):
    """Forgotten commits, in hex; their names and number for display, and which command removed them."""

    commits: tuple[str, ...] = ()
    versions: str = ""
    count: int | None = None
    reason: str = ""


class PurgeLogArgs(LogArgs, frozen=True, kw_only=True):
    """A purge: how many commits it rewrote, and how many branches it moved.

    `gone` commits have become those of `made`, one by one; in hex.
    """

    rewritten: int | None = None
    branches: int | None = None
    gone: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


class GcLogArgs(LogArgs, frozen=True, kw_only=True):
    """A sweep: how many packs it removed, and the bytes of all packs before and after it."""

    packs: int | None = None
    bytes_before: int | None = None
    bytes_after: int | None = None


class TransferLogArgs(LogArgs, frozen=True, kw_only=True):
    """A push or fetch: the remote's name, and the bytes of the packs that were moved.

    `gone` commits have become those of `made`, one by one, by purges of others; in hex.
    """

    remote: str = ""
    bytes: int | None = None
    gone: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


class OtherLogArgs(LayerLogArgs, frozen=True, kw_only=True):
    """Arguments of a kind that this program does not know. Names that mean a commit mean one here, too."""

    whole: str = ""

    def kept_commits(self) -> Iterator[str]:
        """Yields the commits, in hex, that must exist for the operation to be undone."""
        yield from filter(None, (self.base, self.before, self.after, self.whole))


ARGS_OF_KIND: Mapping[str, type[LogArgs]] = {
    "amend": CommitLogArgs,
    "commit": CommitLogArgs,
    "describe": DescribeLogArgs,
    "fetch": TransferLogArgs,
    "forget": ForgetLogArgs,
    "gc": GcLogArgs,
    "import": CommitLogArgs,
    "merge": CommitLogArgs,
    "merge-abort": MergeAbortLogArgs,
    "merge-begin": MergeBeginLogArgs,
    "purge": PurgeLogArgs,
    "push": TransferLogArgs,
    "restore": RestoreLogArgs,
    "undo": UndoLogArgs,
}


def encode_args(args: LogArgs) -> dict[str, str]:
    """Returns arguments as the log has them."""
    texts: dict[str, str] = {}
    for name, (default, _) in _fields(type(args)).items():
        value = getattr(args, name)
        if value != default:
            texts[name] = " ".join(value) if isinstance(value, tuple) else str(value)
    return {**texts, **args.more}


def decode_args(kind: str, texts: Mapping[str, str]) -> LogArgs:
    """Returns the arguments of an operation of the log; raises ValueError, with the reason, for what is no number."""
    if not texts:
        return LogArgs()
    found = ARGS_OF_KIND.get(kind, OtherLogArgs)
    fields = _fields(found)
    values = {name: fields[name][1](text) for name, text in texts.items() if name in fields}
    return found(**values, more={name: text for name, text in texts.items() if name not in fields})


def fits(kind: str, args: LogArgs) -> bool:
    """Returns True if arguments are of the type that operations of a kind have."""
    return type(args) in (LogArgs, ARGS_OF_KIND.get(kind, OtherLogArgs))


@cache
def _fields(of: type[LogArgs]) -> dict[str, tuple[Any, Callable[[str], Any]]]:
    """Returns each field's default, and what turns its text in the log into its value."""
    decoders: dict[Any, Callable[[str], Any]] = {int | None: _count, tuple[str, ...]: _words}
    fields = msgspec.structs.fields(of)
    return {field.name: (field.default, decoders.get(field.type, str)) for field in fields if field.name != "more"}


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= COUNT_DIGITS_MAX):
        raise ValueError(f"{text[:80]!r} is no number")
    return int(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(" "))
