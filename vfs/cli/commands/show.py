"""`vfs show`."""

from __future__ import annotations

from itertools import islice

import click

from vfs.api.documents import entry_document, kind_name, version_document
from vfs.cli.arguments.version_or_path import split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.change_format import echo_changes, totals_text
from vfs.cli.display.entry_format import form_text, mode_text
from vfs.cli.display.version_format import meta_cells, one_line, safe_text, short_id
from vfs.cli.opening.open_repository import OpenRepository, open_repository, tags_by_commit
from vfs.cli.terminal.output import echo, echo_json, human_time, style
from vfs.formats.quantities import human_count, human_size
from vfs.history.change_totals import Totals, counted
from vfs.history.diff import diff_trees
from vfs.history.renames import renamed
from vfs.history.walk import first_parents
from vfs.model.ids import CommitId
from vfs.model.layout import LATEST
from vfs.model.names import show_path
from vfs.model.objects import Entry, Kind, Version
from vfs.repo.notes import described
from vfs.store.trees.directories import resolve_path

_CHANGES_MAX = 20_000
"""Changes that are looked at: `vfs show` answers at once even for a version that changed a million files."""
_LINES_MAX = 20


@vfs_command(
    "show",
    "vfs show                        the newest version and what it changed",
    "vfs show v3                     version 3",
    "vfs show paper labels.csv       one file of the version tagged `paper`: mode, size, time, content id",
    is_paged=True,
)
@click.argument("words", metavar="[VERSION] [PATH]", nargs=-1)
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, words: tuple[str, ...], as_json: bool) -> None:
    """Show one version, or one entry of it: who, when, why and what it changed; mode, size, time and content id."""
    with open_repository(invocation) as opened:
        versions, paths = split_arguments(opened, words, paths_max=1)
        found = described(opened.repository, (versions or [version_of(opened, LATEST)])[0])
        for where in paths:
            entry = resolve_path(opened.repository.store, found.commit.root, where).entry
            if as_json:
                echo_json(entry_document(where, entry))
            else:
                _echo_entry(where, entry, found)
            return
        tags = tags_by_commit(opened.repository)
        if as_json:
            echo_json(version_document(found, tags))
        else:
            _echo_version(opened, found, tags.get(found.id, []))


def _echo_fields(fields: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        echo(f"{style(name.ljust(width), 'dim')}  {value}".rstrip())


def _echo_version(opened: OpenRepository, version: Version, tags: list[str]) -> None:
    commit = version.commit
    parents = [f"{short_id(CommitId(parent))}" for parent in commit.parents]
    fields = [
        ("version", style(version.name, "yellow") + (f"  ({', '.join(tags)})" if tags else "")),
        ("id", version.id.hex()),
        ("parents", ", ".join(parents) or "none: the first version"),
        ("time", human_time(commit.time_ns)),
        ("author", one_line(commit.author)),
        ("holds", f"{human_count(commit.root.files, 'file')}, {human_size(commit.root.size)}"),
    ]
    fields += [meta_cells(opened.repository, name, value) for name, value in commit.meta]
    _echo_fields(fields)
    echo()
    for line in safe_text(commit.message).splitlines():
        echo(f"    {line}".rstrip())
    if commit.parents:
        _echo_what_changed(opened, version)


def _echo_what_changed(opened: OpenRepository, version: Version) -> None:
    source = opened.repository.store
    start, is_forgotten = CommitId(version.commit.parents[0]), opened.repository.refs.is_forgotten
    before = next(first_parents(source, start, leave_out=is_forgotten), None)
    if before is None:
        return
    echo()
    totals = Totals()
    looked_at = list(islice(diff_trees(source, before.commit.root, version.commit.root), _CHANGES_MAX))
    more = len(looked_at) == _CHANGES_MAX
    changes = list(counted(renamed(source, looked_at), totals))
    echo(style(f"Since {before.name}: {'at least ' if more else ''}{totals_text(totals)}", "bold"))
    echo_changes(changes, indent="  ", lines_max=_LINES_MAX)
    if more or len(changes) > _LINES_MAX:
        echo(style(f"  All of it: vfs diff {before.name} {version.name}", "dim"))


def _echo_entry(path: bytes, entry: Entry, version: Version) -> None:
    fields = [
        ("path", show_path(path) or "/"),
        ("version", f"{version.name}  {short_id(version.id)}"),
        ("type", kind_name(entry)),
        ("mode", mode_text(entry)),
        ("owner", f"{entry.uid}:{entry.gid}"),
        ("size", f"{human_size(entry.size)}" + (f" ({entry.size:,} bytes)" if entry.size >= 1024 else "")),
        ("modified", human_time(entry.mtime_ns)),
    ]
    if entry.kind == Kind.SYMLINK:
        fields.append(("target", show_path(entry.content)))
    elif entry.content:
        fields.append(("content", entry.content.hex()))
    if entry.kind == Kind.FILE:
        fields.append(("kept as", form_text(entry)))
    if entry.kind == Kind.DIR:
        fields.append(("below it", human_count(entry.files, "file")))
    if entry.hole_bytes:
        fields.append(("holes", human_size(entry.hole_bytes)))
    if entry.linked:
        fields.append(("hard links", "yes"))
    fields += [(show_path(name), show_path(value)) for name, value in entry.xattrs]
    _echo_fields(fields)
