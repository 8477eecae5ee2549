"""`vfs diff`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import click

from vfs.api.change_reports import FileDetail, Report, html_report, markdown_report
from vfs.api.documents import change_document, metadata_document, version_document
from vfs.api.html import page
from vfs.cli.arguments.version_or_path import named, path_argument, split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.change_format import echo_changes, echo_stat, totals_text
from vfs.cli.display.version_format import meta_cells
from vfs.cli.opening.compared_files import Contents, VersionContents, working_contents
from vfs.cli.opening.open_repository import OpenRepository, open_repository, tags_by_commit
from vfs.cli.opening.working_layer import differences, uncommitted
from vfs.cli.terminal.columns import cut, echo_table
from vfs.cli.terminal.output import echo, echo_json, echo_raw, style, terminal_width
from vfs.errors import InvalidInput, NotADirectory, NotFound
from vfs.formats.detail import Detail
from vfs.formats.detection import describe
from vfs.formats.quantities import human_count
from vfs.history.change_totals import Totals, counted
from vfs.history.diff import PathChange, diff_trees
from vfs.history.renames import AnyChange, Rename, renamed
from vfs.model.layout import BETWEEN, split_range
from vfs.model.names import path_text, show_path
from vfs.model.objects import Entry, Kind, Version
from vfs.repo.notes import described
from vfs.store.trees.directories import resolve_path

DIFFERENCES_STATUS = 1

_FILES_MAX = 10
_LINES_MAX = 30
_CHARACTERS_MAX = 500
"""Of a line, where standard output is no terminal with a width of its own."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Both sides: `old` is None before the first version, `new` None for the working layer."""

    old: Version | None
    new: Version | None
    paths: Sequence[bytes]


@vfs_command(
    "diff",
    "vfs diff v1 v2                  what changed between two versions, and inside the files that did",
    "vfs diff v1 v2 images           below one directory; v1..v2 means the same as v1 v2",
    "vfs diff v1                     between version 1 and the working layer",
    "vfs diff v1 labels.csv          the same, of one file; v1.. is v1 as well",
    "vfs diff                        uncommitted changes",
    "vfs diff labels.csv             the same, of one file",
    "vfs diff v1 v2 --stat           counts and bytes by directory",
    "vfs diff v1 v2 labels.csv --full --key file    all lines; rows of a table are followed by the column `file`",
    "vfs diff v1 v2 --md | gh pr comment 12 -F -    the same as Markdown; --html is a page that stands alone",
    "vfs diff v1 v2 --json           for programs: one JSON object a changed path; with --detail, what changed inside",
    is_paged=True,
)
@click.argument("words", metavar="[A] [B] [PATH]...", nargs=-1)
@click.option("--stat", is_flag=True, help="Show counts and bytes by directory instead.")
@click.option("--name-only", is_flag=True, help="Show the changed paths instead, one a line.")
@click.option("--html", "report", flag_value="html", help="Print a page that stands alone, below 2 MB.")
@click.option("--md", "report", flag_value="md", help="Print Markdown for a pull request, below 64 KB.")
@click.option("-z", "--null", is_flag=True, help="With --name-only, paths as they are, each ended by a NUL.")
@click.option("--detail/--no-detail", default=None, help="Compare inside changed files, or not; off with --json.")
@click.option(
    "--full", is_flag=True, help=f"Look into all files, not {_FILES_MAX}; show every line, not {_LINES_MAX}, and uncut."
)
@click.option("--key", metavar="COLUMN", help="Follow the rows of tables by this column; else by a unique one.")
@click.option("--renames/--no-renames", default=True, help="Detect renames by content, or not.")
@click.option("--all", "whole", is_flag=True, help="List every path in added and removed directories, not their sum.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; only set the exit status.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    stat: bool,
    name_only: bool,
    report: str | None,
    null: bool,
    detail: bool | None,
    full: bool,
    key: str | None,
    renames: bool,
    whole: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Compare two versions, or a version and the working layer.

    Lists added (A), removed (D), modified (M) and renamed (R, found by content) paths, then what changed inside: lines
    of text, columns and rows of CSV, Parquet and JSON Lines, keys of JSON, pixels of images, values of arrays. Contents
    that are called the same were compared in full; contents that were not compared are named, with the reason. Exits
    with 1 when there are differences, as diff does. Finding what changed takes as long as the change is large, not the
    data.
    """
    if null and not name_only:
        raise click.UsageError("--null goes with --name-only.")
    if report and (stat or name_only or as_json):
        raise click.UsageError(f"--{report} is a report of its own: leave --stat, --name-only and --json out.")
    with open_repository(invocation) as opened:
        compared = _comparison(opened, words)
        plain = _changes(opened, compared)
        if quiet:
            return DIFFERENCES_STATUS if next(plain, None) is not None else 0
        # Uncommitted data has no chunks in the store, so only whole contents are matched there.
        source = opened.repository.store if compared.new is not None else None
        changes: Iterable[AnyChange] = renamed(source, plain) if renames else plain
        totals = Totals()
        if name_only:
            _echo_names(counted(changes, totals), null=null)
        elif stat:
            echo_stat(counted(changes, totals), totals, as_json=as_json)
        elif report:
            _echo_report(opened, compared, counted(changes, totals), key, report, full=full, detail=detail)
        elif as_json:
            _echo_json(opened, compared, counted(changes, totals), key, with_detail=bool(detail))
        else:
            kept: list[AnyChange] = []
            echo_changes(_keeping(counted(changes, totals), kept, None if full else _FILES_MAX), whole=whole)
            if totals:
                echo(style(totals_text(totals), "bold"))
            if detail is not False:
                _echo_details(opened, compared, kept, key, full=full)
        if not (name_only or stat or report):
            _echo_meta(opened, compared, as_json=as_json)
        return DIFFERENCES_STATUS if totals else 0


def _echo_meta(opened: OpenRepository, compared: _Comparison, *, as_json: bool) -> None:
    """Writes in which metadata two versions differ; that is no difference of the data, and no exit status."""
    if compared.old is None or compared.new is None:
        return
    old, new = (dict(described(opened.repository, side).commit.meta) for side in (compared.old, compared.new))
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if as_json:
        for key in differing:
            echo_json(metadata_document(key, old.get(key), new.get(key)))
    elif differing:
        echo()
        rows = []
        for key in differing:
            cells = [meta_cells(opened.repository, key, side.get(key, "-")) for side in (old, new)]
            rows.append([cells[0][0], " → ".join(value for _, value in cells)])
        echo_table(rows, styles=("dim", ""))


def _comparison(opened: OpenRepository, words: Sequence[str]) -> _Comparison:
    ends = split_range(os.fsencode(words[0])) if words and BETWEEN.decode() not in words[0].split("/") else None
    if ends is not None:
        # `A..B` or `A..`, the way a mount names it: what follows are paths.
        a, b = map(os.fsdecode, ends)
        if not a:
            raise InvalidInput("the range has no beginning", hint="Write it as v1..v2, or v1.. for the working layer.")
        if named(opened, a) is not None or not b:
            versions = [version_of(opened, word) for word in (a, b) if word]
            paths = [path_argument(opened, word, versions) for word in words[1:]]
            return _Comparison(versions[0], versions[1] if b else None, paths)
    versions, paths = split_arguments(opened, words, versions_max=2)
    if not versions:
        newest = opened.repository.head(opened.branch)
        return _Comparison(newest, None, paths)
    return _Comparison(versions[0], versions[1] if len(versions) > 1 else None, paths)


def _changes(opened: OpenRepository, compared: _Comparison) -> Iterator[PathChange]:
    if compared.new is None:
        changes = uncommitted(opened) if compared.old is None else differences(opened, compared.old)
        yield from (change for change in changes if _is_wanted(change.path, compared.paths))
        return
    if compared.old is None:
        return
    source = opened.repository.store
    old, new = compared.old.commit.root, compared.new.commit.root
    for path in compared.paths or [b""]:
        old_entry, new_entry = _find(opened, old, path), _find(opened, new, path)
        if old_entry is None and new_entry is None:
            raise NotFound(f"neither version has {show_path(path)}", hint="`vfs ls VERSION` lists what one has.")
        yield from diff_trees(source, old_entry, new_entry, path)


def _is_wanted(path: bytes, wanted: Sequence[bytes]) -> bool:
    return not wanted or any(not each or path == each or path.startswith(each + b"/") for each in wanted)


def _find(opened: OpenRepository, root: Entry, path: bytes) -> Entry | None:
    try:
        return resolve_path(opened.repository.store, root, path).entry
    except (NotFound, NotADirectory):
        return None


def _echo_names(changes: Iterable[AnyChange], *, null: bool) -> None:
    for change in changes:
        if null:
            echo_raw(change.path + b"\0")
        else:
            echo(show_path(change.path))


# What changed inside files.


def _has_detail(change: AnyChange) -> bool:
    old, new = change.old, change.new
    return old is not None and new is not None and old.kind == new.kind == Kind.FILE and "content" in change.aspects


def _keeping(changes: Iterable[AnyChange], kept: list[AnyChange], count: int | None) -> Iterator[AnyChange]:
    """Yields the changes and keeps the first ones with details, and one more to know that there are more."""
    for change in changes:
        if _has_detail(change) and (count is None or len(kept) <= count):
            kept.append(change)
        yield change


def _sides(opened: OpenRepository, compared: _Comparison, stack: ExitStack) -> tuple[Contents, Contents] | None:
    if compared.old is None:
        return None
    source = opened.repository.store
    if compared.new is None:
        return VersionContents(source, compared.old), stack.enter_context(working_contents(opened))
    return VersionContents(source, compared.old), VersionContents(source, compared.new)


def _detail_of(sides: tuple[Contents, Contents], change: AnyChange, key: str | None, *, patient: bool) -> Detail:
    old_path = change.old_path if isinstance(change, Rename) else change.path
    try:
        with sides[0].open(old_path) as old, sides[1].open(change.path) as new:
            return describe(change.path, old, new, key, patient=patient)
    except (OSError, NotFound) as error:
        # Programs write to the working layer meanwhile: the file may be removed.
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return Detail("unreadable", [f"cannot be read: {reason}"])


def _echo_details(
    opened: OpenRepository, compared: _Comparison, kept: list[AnyChange], key: str | None, *, full: bool
) -> None:
    if not kept:
        return
    with ExitStack() as stack:
        sides = _sides(opened, compared, stack)
        if sides is None:
            return
        for change in islice(kept, None if full else _FILES_MAX):
            detail = _detail_of(sides, change, key, patient=full or key is not None)
            echo()
            echo(style(show_path(change.path), "bold"))
            whole = list(islice(detail.lines, None if full else _LINES_MAX))
            shown = whole if full else [_cut(line) for line in whole]
            for line in shown:
                echo("  " + _coloured(line))
            if shown != whole:
                echo(style("  … long lines are cut: --full shows them whole", "dim"))
            if not full and len(detail.lines) > _LINES_MAX:
                more = human_count(len(detail.lines) - _LINES_MAX, "line")
                echo(style(f"  … {more} more: --full shows them", "dim"))
    if not full and len(kept) > _FILES_MAX:
        echo()
        echo(style("More files changed inside: name them, or look into all with --full", "dim"))


def _echo_report(
    opened: OpenRepository,
    compared: _Comparison,
    changes: Iterable[AnyChange],
    key: str | None,
    kind: str,
    *,
    full: bool,
    detail: bool | None,
) -> None:
    """Writes the changes as a page or as Markdown."""
    # The list is complete before contents are opened: both access the working layer.
    listed = list(changes)
    kept = [change for change in listed if _has_detail(change) and detail is not False]
    tags = tags_by_commit(opened.repository)
    old, new = (
        None if side is None else version_document(described(opened.repository, side), tags)
        for side in (compared.old, compared.new)
    )
    details = []
    with ExitStack() as stack:
        sides = _sides(opened, compared, stack)
        for change in islice(kept, None if full else _FILES_MAX):
            if sides is None:
                break
            lines = _detail_of(sides, change, key, patient=full or key is not None).lines
            shown = [
                cut(line[: 4 * _CHARACTERS_MAX], _CHARACTERS_MAX)
                for line in islice(lines, None if full else _LINES_MAX)
            ]
            if len(shown) < len(lines):
                shown.append(f"… {human_count(len(lines) - len(shown), 'line')} more")
            details.append(FileDetail(path_text(change.path), shown))
    made = Report(old, new, map(change_document, listed), details)
    echo(page("vfs diff", html_report(made)).rstrip("\n") if kind == "html" else markdown_report(made).rstrip("\n"))


def _cut(line: str) -> str:
    width = terminal_width()
    width_left = _CHARACTERS_MAX if width is None else max(width - 2, 20)
    # Lines can have millions of characters, of which only the first are measured.
    return cut(line if len(line) <= 4 * width_left else line[: 4 * width_left] + "…", width_left)


def _coloured(line: str) -> str:
    if line.startswith("@@"):
        return style(line, "cyan")
    if line.startswith("+"):
        return style(line, "green")
    return style(line, "red") if line.startswith("-") else line


def _echo_json(
    opened: OpenRepository, compared: _Comparison, changes: Iterable[AnyChange], key: str | None, *, with_detail: bool
) -> None:
    if not with_detail:
        for change in changes:
            echo_json(change_document(change))
        return
    # The list is complete before contents are opened: both access the working layer.
    listed = list(changes)
    with ExitStack() as stack:
        sides = _sides(opened, compared, stack)
        for change in listed:
            value = change_document(change)
            if sides is not None and _has_detail(change):
                value["detail"] = _detail_of(sides, change, key, patient=True).as_json()
            echo_json(value)
