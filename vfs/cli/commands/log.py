"""`vfs log`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import click
import msgspec

from vfs.cli.arguments.version_or_path import split_arguments
from vfs.cli.command import CountType, Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.version_format import author_cell, first_line, meta_cells, meta_text, one_line, safe_text, short_id
from vfs.cli.opening.open_repository import OpenRepository, open_repository, tags_by_commit
from vfs.cli.terminal.columns import columns, echo_table, fitting, styled
from vfs.cli.terminal.output import echo, echo_err, echo_json, human_time, terminal_width
from vfs.errors import InvalidInput, NotFound
from vfs.formats.quantities import human_count, human_size
from vfs.history.time_expressions import parse_span
from vfs.history.walk import ancestors, first_parents
from vfs.model.ids import CommitId
from vfs.model.names import show_path
from vfs.model.objects import Entry, Version
from vfs.repo.notes import described
from vfs.repo.repository import Repository
from vfs.store.refs.operation import BRANCHES

if TYPE_CHECKING:
    from vfs.history.path_history import PathRevision

_ROWS_AT_ONCE = 500
"""Rows whose columns are aligned together: all of most histories, and few enough for a pipe."""
_LETTERS = {"added": "A", "modified": "M", "removed": "D"}
_STYLES = ("yellow", "dim", "", "cyan", "dim", "dim", "")
_RIGHT = (4, 5)
_DROPPABLE = (4, 5, 1, 3, 2)
"""Columns that a narrow terminal leaves out, the first one first: numbers, id, author, time."""
_MESSAGE_MIN = 30


class _Row(msgspec.Struct, frozen=True):
    """A version to be shown, with what it did to the requested path."""

    version: Version
    revision: PathRevision | None = None


@vfs_command(
    "log",
    "vfs log                         every version, newest first",
    "vfs log -n 5 labels.csv         the last five versions that changed labels.csv: A added, M modified, D removed",
    "vfs log v7                      version 7 and those before it",
    "vfs log --follow labels.csv     also what it was before it got this name",
    "vfs log --metric accuracy       compares versions by what runs on them came to, with a plot",
    "vfs log --graph                 with what was merged; --graph --all: all branches",
    "vfs log --since 2026-11-01 --author ann --grep 'labels?'",
    "vfs log --json | jq -r .id      for programs: one JSON object a line",
    is_paged=True,
)
@click.argument("words", metavar="[VERSION] [PATH]", nargs=-1)
@click.option("-n", "--max-count", type=CountType(min=1), help="Stop after this many versions.")
@click.option("--since", metavar="TIME", help="Only versions from this day, minute or second on.")
@click.option("--until", metavar="TIME", help="Only versions up to the end of this day, minute or second.")
@click.option("--author", metavar="TEXT", help="Only versions whose author has this text, in any case.")
@click.option("--grep", metavar="REGEX", help="Only versions whose message matches, in any case.")
@click.option("--metric", metavar="NAME", help="Show this metric of each version, with a plot; see `vfs run`.")
@click.option("--follow", is_flag=True, help="Follow PATH through renames, found by content.")
@click.option("--graph", is_flag=True, help="Draw the history with all that was merged into it.")
@click.option("--all", "all_branches", is_flag=True, help="With --graph, the histories of all branches.")
@click.option("--full", is_flag=True, help="Show complete messages and ids.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    words: tuple[str, ...],
    max_count: int | None,
    since: str | None,
    until: str | None,
    author: str | None,
    grep: str | None,
    metric: str | None,
    follow: bool,
    graph: bool,
    all_branches: bool,
    full: bool,
    as_json: bool,
) -> None:
    """List the versions, newest first; with VERSION from it back, with PATH only those that changed it.

    A merge is one version here; --graph shows the commits that it added. With --json one object a line: version,
    id, parents, time (UTC), author, message, meta, files, size, tags; with PATH also path, change, entry and from. A
    forgotten version has `forgotten`.

    --metric shows the newest value of a run that read the version, else the version's own metadata, else that of a run
    that made it (`by r17`); with --json it is `metric`.
    """
    if all_branches and not graph:
        raise click.UsageError("--all goes with --graph.")
    if graph and (full or as_json):
        raise click.UsageError("--graph draws whole versions, one line each: leave PATH, --full and --json out.")
    if metric is not None and (graph or full):
        raise click.UsageError("--metric has a plot of its own: leave --graph and --full out.")
    if follow and not words:
        raise click.UsageError("--follow takes a PATH.")
    earliest, latest = _bounds(since, until)
    is_wanted = _filter(latest, author, grep)
    with open_repository(invocation) as opened:
        newest = opened.repository.head(opened.branch)
        if newest is None:
            if not as_json:
                echo_err(
                    "Nothing is committed yet. Make the first version with `vfs commit -m MESSAGE` or `vfs import DIR`."
                )
            return
        found, paths = split_arguments(opened, words, paths_max=1, paths_first=True)
        start = found[0] if found else newest
        if graph and paths:
            raise click.UsageError("--graph draws whole versions, one line each: leave PATH, --full and --json out.")
        if follow and not paths:
            raise click.UsageError("--follow takes a PATH.")
        if graph:
            _echo_graph(opened, start, earliest, is_wanted, max_count, all_branches=all_branches)
            return
        history = (
            described(opened.repository, version) for version in first_parents(opened.repository.store, start.id)
        )
        rows = (
            _steps(opened, start, paths[0], earliest, follow=follow) if paths else map(_Row, _from(history, earliest))
        )
        wanted = (row for row in rows if is_wanted is None or is_wanted(row.version))
        if metric is not None:
            _echo_metric(opened, list(islice(wanted, max_count)), metric, as_json=as_json)
        else:
            _echo(opened, islice(wanted, max_count), full=full, as_json=as_json)


def _bounds(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Returns the first and the last nanosecond of the requested time."""
    spans = []
    for text in (since, until):
        span = None if text is None else parse_span(text, None)
        if text is not None and span is None:
            hint = "Write it as 2026-11-01, 2026-11-01T12:00 or 2026-11-01T12:00+01:00."
            raise InvalidInput(f"{text!r} is no time", hint=hint)
        spans.append(span)
    first, last = spans
    return first[0] if first is not None else None, last[1] if last is not None else None


def _filter(latest: int | None, author: str | None, grep: str | None) -> Callable[[Version], bool] | None:
    """Returns the predicate for requested versions, or None where all are."""
    if latest is None and author is None and grep is None:
        return None
    try:
        pattern = re.compile(grep, re.IGNORECASE) if grep is not None else None
    except re.error as error:
        hint = "Escape characters that stand for themselves."
        raise InvalidInput(f"{grep!r} is no regular expression: {error}", hint=hint) from None
    wanted = author.casefold() if author is not None else ""

    def is_wanted(version: Version) -> bool:
        commit = version.commit
        return (
            (latest is None or commit.time_ns <= latest)
            and wanted in commit.author.casefold()
            and (pattern is None or pattern.search(commit.message) is not None)
        )

    return is_wanted


def _from(versions: Iterable[Version], earliest: int | None) -> Iterator[Version]:
    """Yields versions down to a time; times never go back along a history, so no older version is read."""
    for version in versions:
        if earliest is not None and version.commit.time_ns < earliest:
            return
        yield version


def _steps(
    opened: OpenRepository, start: Version, path: bytes, earliest: int | None, *, follow: bool
) -> Iterator[_Row]:
    """Yields the versions that changed a path; raises NotFound if none has it."""
    from vfs.history.path_history import path_revisions

    found = False
    history = first_parents(opened.repository.store, start.id, leave_out=opened.repository.refs.is_forgotten)
    for revision in path_revisions(opened.repository.store, history, path, follow=follow):
        found = True
        if earliest is not None and revision.version.commit.time_ns < earliest:
            return
        yield _Row(described(opened.repository, revision.version), revision)
    if not found:
        raise NotFound(f"no version has {show_path(path)}", hint="`vfs ls latest` lists what the newest version has.")


def _echo(opened: OpenRepository, rows: Iterator[_Row], *, full: bool, as_json: bool) -> None:
    tags = tags_by_commit(opened.repository)
    if as_json:
        from vfs.api.documents import logged_document

        for row in rows:
            is_forgotten = opened.repository.refs.is_forgotten(row.version.id)
            echo_json(logged_document(row.version, tags, row.revision, is_forgotten=is_forgotten))
    elif full:
        for row in rows:
            _echo_full(opened.repository, row, _names(opened, row.version, tags))
    else:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            _echo_rows([["", *_cells(opened.repository, row, _names(opened, row.version, tags))] for row in some])


def _echo_metric(opened: OpenRepository, rows: list[_Row], name: str, *, as_json: bool) -> None:
    from vfs.cli.display.metric_log import VersionMetrics, plotted
    from vfs.repo.runs.run_tables import RunTables

    with RunTables.open(opened.repository) as tables:
        metrics = VersionMetrics(tables, name)
    found = [metrics.of(row.version) for row in rows]
    tags = tags_by_commit(opened.repository)
    if as_json:
        from vfs.api.documents import logged_document

        for row, metric in zip(rows, found, strict=True):
            is_forgotten = opened.repository.refs.is_forgotten(row.version.id)
            document = logged_document(row.version, tags, row.revision, is_forgotten=is_forgotten)
            echo_json({**document, "metric": metric.document(name) if metric is not None else None})
        return
    if not any(found):
        echo_err(f"No version here has a metric {one_line(name)}. `vfs runs --metric NAME` lists runs that have one.")
    cells = [
        [
            row.version.name,
            metric.text if metric is not None else "",
            plot,
            metric.origin if metric is not None else "",
            " ".join(
                filter(None, [_tagged(_names(opened, row.version, tags)), first_line(row.version.commit.message)])
            ),
        ]
        for row, metric, plot in zip(rows, found, plotted(found), strict=True)
    ]
    echo_table(cells, styles=("yellow", "", "cyan", "dim", ""), droppable=(3, 2))


def _tagged(names: list[str]) -> str:
    return f"({', '.join(names)})" if names else ""


def _names(opened: OpenRepository, version: Version, names: Mapping[CommitId, list[str]]) -> list[str]:
    """Returns the text in brackets after a version: its names, or that it is forgotten."""
    return ["forgotten"] if opened.repository.refs.is_forgotten(version.id) else names.get(version.id, [])


def _cells(repository: Repository, row: _Row, names: list[str]) -> list[str]:
    commit, revision = row.version.commit, row.revision
    if revision is None:
        numbers = [human_count(commit.root.files, "file"), human_size(commit.root.size)]
        moved = ""
    else:
        numbers = [_LETTERS[revision.kind], _size(revision.new)]
        moved = f"(was {show_path(revision.old_path)}) " if revision.old_path != revision.path else ""
    named = f"({', '.join(names)}) " if names else ""
    return [
        row.version.name,
        short_id(row.version.id),
        human_time(commit.time_ns),
        author_cell(commit.author),
        *numbers,
        " ".join(filter(None, [named + moved + first_line(commit.message), meta_text(repository, row.version)])),
    ]


def _size(entry: Entry | None) -> str:
    return "" if entry is None else human_size(entry.size)


def _echo_rows(rows: list[list[str]]) -> None:
    """Writes rows of a picture and the cells of a version, in columns; a row may have a picture alone."""
    width = terminal_width()
    graph_width = max(len(row[0]) for row in rows)
    width_left = width - graph_width - (2 if graph_width else 0) if width is not None else None
    cells = [row[1:] for row in rows if len(row) > 1]
    kept = fitting(cells, width_left, _DROPPABLE, last_min=_MESSAGE_MIN)
    right = [place for place, column in enumerate(kept) if column in _RIGHT]
    padded = iter(columns([[row[column] for column in kept] for row in cells], right))
    for row in rows:
        if len(row) == 1:
            echo(row[0])
            continue
        picture = f"{row[0].ljust(graph_width)}  " if graph_width else ""
        echo((picture + styled(next(padded), [_STYLES[column] for column in kept], width_left)).rstrip())


def _echo_full(repository: Repository, row: _Row, tags: list[str]) -> None:
    version, commit = row.version, row.version.commit
    echo(f"{version.name}  {version.id.hex()}" + (f"  ({', '.join(tags)})" if tags else ""))
    echo(f"    {human_time(commit.time_ns)}  {one_line(commit.author)}")
    echo(f"    {human_count(commit.root.files, 'file')}, {human_size(commit.root.size)}")
    if len(commit.parents) > 1:
        echo(f"    merges {', '.join(short_id(CommitId(parent)) for parent in commit.parents[1:])}")
    for key, value in commit.meta:
        name, shown = meta_cells(repository, key, value)
        echo(f"    {name}  {shown}")
    if row.revision is not None:
        was = f", was {show_path(row.revision.old_path)}" if row.revision.old_path != row.revision.path else ""
        echo(f"    {row.revision.kind} {show_path(row.revision.path)}{was}")
    echo()
    for line in safe_text(commit.message).splitlines():
        echo(f"    {line}".rstrip())
    echo()


def _echo_graph(
    opened: OpenRepository,
    newest: Version,
    earliest: int | None,
    is_wanted: Callable[[Version], bool] | None,
    max_count: int | None,
    *,
    all_branches: bool,
) -> None:
    from vfs.cli.display.commit_graph import draw, simplified

    repository = opened.repository
    heads = [(name.removeprefix(BRANCHES), commit_id) for name, commit_id in repository.refs.list(BRANCHES)]
    names: dict[CommitId, list[str]] = {}
    for name, commit_id in heads:
        names.setdefault(commit_id, []).append(name)
    for commit_id, tags in tags_by_commit(repository).items():
        names.setdefault(commit_id, []).extend(tags)
    starts = [commit_id for _, commit_id in heads] if all_branches else [newest.id]
    # Nothing older than a commit comes before it here, so the first ones are enough unless some are left out.
    found = _from(ancestors(repository.store, starts), earliest)
    wanted = islice(found, max_count) if is_wanted is None else found
    history = {version.id: described(repository, version) for version in wanted}
    lines: Iterable[tuple[bytes, Sequence[bytes]]] = [
        (version.id, version.commit.parents) for version in history.values()
    ]
    if is_wanted is not None:
        kept: set[bytes] = {version.id for version in history.values() if is_wanted(version)}
        lines = islice(simplified(list(lines), kept), max_count)
    rows = []
    for drawn in draw(lines):
        row = [drawn.picture]
        if drawn.commit is not None:
            version = history[CommitId(drawn.commit)]
            cells = _cells(repository, _Row(version), _names(opened, version, names))
            # A number is the version's place on this branch; merged commits have other numbers on their own branch.
            is_ours = repository.refs.version(opened.branch, version.commit.number) == version.id
            row += [cells[0] if is_ours else "", *cells[1:]]
        rows.append(row)
    if rows:
        _echo_rows(rows)
