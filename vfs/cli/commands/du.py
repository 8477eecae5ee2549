"""`vfs du`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from vfs.api.documents import entry_document
from vfs.api.repository_documents import cost_document
from vfs.cli.arguments.version_or_path import split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.entry_format import shown_name
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.locate import path_in
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo_json
from vfs.cli.terminal.progress import StageBar
from vfs.errors import NotFound
from vfs.formats.quantities import human_count, human_size
from vfs.model.layout import LATEST
from vfs.model.names import join_path, show_path
from vfs.model.objects import Entry, Kind, Version
from vfs.repo.costs import held_bytes, version_costs
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import entries, resolve_path


@vfs_command(
    "du",
    "vfs du                          the newest version: its directories, largest first, and the sum",
    "vfs du v3 images --depth 2      two levels below a directory of version 3",
    "vfs du v3 --files               files as well as directories",
    "vfs du v3 --cost                what version 3 costs on disk, alone and shared with other versions",
    is_paged=True,
)
@click.argument("words", metavar="[VERSION] [PATH]", nargs=-1)
@click.option("-d", "--depth", type=click.IntRange(min=0), default=1, show_default=True, help="Levels to list.")
@click.option("-a", "--files", is_flag=True, help="List files as well.")
@click.option("-c", "--cost", is_flag=True, help="Say what the version costs alone, and what it shares.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, words: tuple[str, ...], depth: int, files: bool, cost: bool, as_json: bool) -> None:
    """Show the size of a version's data, by directory, largest first.

    Sizes are those of the files' bytes, before compression and with everything that versions share counted in full;
    `vfs stats` shows the stored sizes. A large directory takes no longer than a small one.

    --cost counts distinct pieces of content and of directories instead, and reads the directories of every version:
    what no other version has is what `vfs forget` frees.
    """
    with open_repository(invocation) as opened:
        versions, paths = split_arguments(opened, words, paths_max=1)
        if cost and paths:
            raise click.UsageError("--cost is about a whole version.")
        version = (versions or [version_of(opened, LATEST)])[0]
        if cost:
            _echo_cost(opened.repository, version, as_json=as_json)
            return
        source = opened.repository.store
        start = paths[0] if paths else path_in(opened.place, ".")
        entry = resolve_path(source, version.commit.root, start).entry
        found = list(_levels(source, start, entry, depth, files=files))
        found.sort(key=lambda pair: (-pair[1].size, pair[0]))
        if as_json:
            for where, each in found:
                echo_json(entry_document(where, each))
            echo_json(entry_document(start, entry))
            return
        rows = [[human_size(each.size), _files(each), shown_name(each, where)] for where, each in found]
        total = show_path(start) or "all"
        echo_table(
            [*rows, [human_size(entry.size), _files(entry), total]],
            right=(0, 1),
            styles=("", "dim", ""),
            droppable=(1,),
        )


def _echo_cost(repository: Repository, version: Version, *, as_json: bool) -> None:
    with StageBar() as progress:
        costs = version_costs(repository, progress)
    found = next((cost for cost in costs if cost.version.id == version.id), None)
    if found is None:
        raise NotFound(f"no branch or tag leads to {version.name} {short_id(version.id)}", hint="`vfs gc` removes it.")
    held = held_bytes(repository, version)
    if as_json:
        echo_json(cost_document(found, held))
        return
    echo_table(
        [
            ["holds", human_size(held), f"{human_size(version.commit.root.size)} in files, as a copy would have"],
            [
                "  alone",
                human_size(found.alone_bytes),
                f"{human_size(found.alone_stored)} stored; forgetting frees it",
            ],
            ["  shared", human_size(held - found.alone_bytes), "with other versions"],
            ["added", human_size(found.new_bytes), f"{human_size(found.new_stored)} stored; no older version has it"],
        ],
        right=(1,),
        styles=("dim", "", "dim"),
    )


def _files(entry: Entry) -> str:
    return human_count(entry.files, "file") if entry.kind == Kind.DIR else ""


def _levels(
    source: ObjectSource, path: bytes, directory: Entry, depth: int, *, files: bool
) -> Iterator[tuple[bytes, Entry]]:
    if depth == 0 or directory.kind != Kind.DIR:
        return
    for entry in entries(source, directory):
        where = join_path(path, entry.name)
        if entry.kind == Kind.DIR:
            yield where, entry
            yield from _levels(source, where, entry, depth - 1, files=files)
        elif files:
            yield where, entry
