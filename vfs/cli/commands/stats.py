"""`vfs stats`."""

from __future__ import annotations

import click
import msgspec

from vfs.cli.output import human_count, human_size, say_json, say_table
from vfs.cli.reach import opened
from vfs.cli.verb import Invocation, branch_option, json_option, repository_option, verb
from vfs.repo.stats import Stats, stats


@verb(
    "stats",
    "vfs stats                       from inside a mount or a repository",
    "vfs --repo repo stats --json",
)
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, as_json: bool) -> None:
    """Show what a repository stores and what it saves, against a copy of the data for each version."""
    with opened(invocation) as at:
        found = stats(at.repository, at.branch)
    if as_json:
        say_json(
            msgspec.to_builtins(found)
            | {
                "stored_bytes": found.stored_bytes,
                "dedup_ratio": round(found.dedup_ratio, 3),
                "compression_ratio": round(found.compression_ratio, 3),
                "saving_ratio": round(found.saving_ratio, 3),
            }
        )
        return
    say_table(_rows(found), right=(1,), styles=("dim", "", "dim"))


def _rows(found: Stats) -> list[list[str]]:
    chunks = f"{human_count(found.chunks, 'chunk')}, {human_size(found.unique_bytes)} before compression"
    nodes = f"{human_count(found.nodes, 'node')}: names, attributes, tiny files"
    return [
        ["newest version", human_size(found.head_bytes), human_count(found.head_files, "file")],
        ["all versions as copies", human_size(found.logical_bytes), human_count(found.versions, "version")],
        ["stored", human_size(found.stored_bytes), f"{found.saving_ratio:.1f} times less than copies"],
        ["  data packs", human_size(found.stored_data_bytes), chunks],
        ["  tree packs", human_size(found.stored_tree_bytes), nodes],
        ["index", human_size(found.index_bytes), f"of {human_count(found.packs, 'pack')}; can be made again"],
        ["operation log", human_size(found.log_bytes), human_count(found.tags, "tag")],
    ]
