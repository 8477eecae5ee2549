"""What a shell proposes for a word of a command line: click finds the argument, this module its values.

A proposal comes from the repository that the command would use. Nothing is proposed, and nothing is printed, where that
does not open or does not respond.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from vfs.errors import VfsError
from vfs.model.layout import LATEST

if TYPE_CHECKING:
    from vfs.cli.opening.open_repository import OpenRepository

_PROPOSED_MAX = 200
"""More proposals than a reader looks through; the newest versions come first."""


def _versions(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.cli.display.version_format import first_line

    for version in islice(_matching_versions(opened, start), _PROPOSED_MAX):
        yield CompletionItem(version.name, help=_one_line(first_line(version.commit.message)))
    if LATEST.startswith(start) and opened.repository.head(opened.branch) is not None:
        yield CompletionItem(LATEST, help="the newest version")
    yield from _tags(opened, start)
    yield from _branches(opened, start)


def _matching_versions(opened: OpenRepository, start: str) -> Iterator[Any]:
    if not start or (start[0] == "v" and (start[1:].isdecimal() or start == "v")):
        yield from (version for version in opened.repository.versions(opened.branch) if version.name.startswith(start))


def _tags(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.tags import list_tags

    yield from (CompletionItem(tag.name, help="tag") for tag in list_tags(opened.repository) if _fits(tag.name, start))


def _branches(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.branches import list_branches

    for branch in list_branches(opened.repository):
        if _fits(branch.name, start):
            yield CompletionItem(branch.name, help="the current branch" if branch.is_current else "branch")


def _remotes(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.transfer.remotes import list_remotes

    found = list_remotes(opened.repository)
    yield from (CompletionItem(name, help="remote") for name, _ in found if _fits(name, start))


def _runs(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.runs.records import list_runs

    runs = list_runs(opened.repository)
    yield from islice((CompletionItem(run.name) for run in reversed(runs) if _fits(run.name, start)), _PROPOSED_MAX)


def _paths(opened: OpenRepository, start: str, words: Sequence[str]) -> Iterator[CompletionItem[str]]:
    """Yields the names that go on a path: of the version that a word before names, else of the newest one."""
    from vfs.cli.opening.locate import path_in
    from vfs.model.objects import Kind
    from vfs.store.trees.directories import entries, resolve_path

    version = _version_among(opened, words)
    if version is None:
        return
    head, slash, tail = start.rpartition("/")
    above = path_in(opened.place, head or (slash or "."))
    directory = resolve_path(opened.repository.store, version.commit.root, above).entry
    names = (entry for entry in entries(opened.repository.store, directory) if _is_shown(entry.name))
    fitting = (entry for entry in names if _fits(os.fsdecode(entry.name), tail))
    for entry in islice(fitting, _PROPOSED_MAX):
        end = "/" if entry.kind is Kind.DIR else ""
        yield CompletionItem(f"{head}{slash}{os.fsdecode(entry.name)}{end}", type="path")


def _version_among(opened: OpenRepository, words: Sequence[str]) -> Any:
    from vfs.cli.arguments.version_or_path import named

    for word in reversed(words):
        try:
            found = named(opened, word)
        except VfsError:
            continue
        if found is not None:
            return found
    return opened.repository.head(opened.branch)


def _is_shown(name: bytes) -> bool:
    """Returns True for a name that the protocol between a shell and this program can carry, a line each."""
    try:
        return b"\n" not in name and b"\r" not in name and bool(name.decode())
    except UnicodeDecodeError:
        return False


def _one_line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:60]


def _fits(name: str, start: str) -> bool:
    return name.startswith(start)


def _words_before(ctx: click.Context) -> list[str]:
    """Returns the words of the command that are not options, as far as they were typed."""
    found: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            found += (
                [str(each) for each in value] if isinstance(value, tuple) else [] if value is None else [str(value)]
            )
    return found


def propose(kind: str, ctx: click.Context, start: str) -> list[CompletionItem[str]]:
    """Returns the values of a kind (see `vfs.cli.command.COMPLETED`) that begin with some text."""
    from vfs.cli.command import Invocation
    from vfs.cli.opening.open_repository import open_repository

    if kind in ("file", "dir"):
        return [CompletionItem(start, type=kind)]
    words = _words_before(ctx)
    with open_repository(ctx.ensure_object(Invocation)) as opened:
        if kind == "path" and opened.place.mount is not None and not words:
            # Names in a mount are files, those that are not committed among them.
            return [CompletionItem(start, type="file")]
        if kind == "version-or-path":
            found = [] if "/" in start else list(_versions(opened, start))
            return found + _safely(lambda: _paths(opened, start, words))
        if kind == "path":
            return _safely(lambda: _paths(opened, start, words))
        return list(_SOURCES[kind](opened, start))


def _safely(make: Callable[[], Iterator[CompletionItem[str]]]) -> list[CompletionItem[str]]:
    try:
        return list(make())
    except VfsError:
        # What is typed leads nowhere.
        return []


_SOURCES: dict[str, Callable[[OpenRepository, str], Iterator[CompletionItem[str]]]] = {
    "version": _versions,
    "tag": _tags,
    "branch": _branches,
    "remote": _remotes,
    "run": _runs,
}
