"""`vfs stats`."""

from __future__ import annotations

import click

from vfs.api.repository_documents import cost_document, stats_document
from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.prometheus import metrics
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_json, human_time
from vfs.cli.terminal.progress import StageBar
from vfs.formats.quantities import human_count, human_size
from vfs.repo.costs import Cost, version_costs
from vfs.repo.stats import Stats, stats


@vfs_command(
    "stats",
    "vfs stats                       from inside a mount or a repository",
    "vfs stats --versions            what each version added, and how well it deduplicates and compresses",
    "vfs --repo repo stats --json",
    "vfs -R repo stats --prometheus > FILE.prom && mv FILE.prom DIR/   for the node exporter's textfile collector",
    is_paged=True,
)
@click.option("--versions", is_flag=True, help="One line for each version of all branches, newest first.")
@click.option("--prometheus", is_flag=True, help="Print metrics in the text format of Prometheus, mounts included.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, versions: bool, prometheus: bool, as_json: bool) -> None:
    """Show what a repository stores and what it saves, against a copy of the data for each version.

    --versions shows it over time: what each version added that no older one has, as a part of its size, how much
    smaller that is stored, and what it has alone, which is what forgetting it frees. Reads the directories of all.
    """
    if prometheus and (versions or as_json):
        raise click.UsageError("--prometheus is a format of its own: leave --json and --versions out.")
    with open_repository(invocation) as opened:
        if versions:
            with StageBar() as progress:
                costs = version_costs(opened.repository, progress)
            _echo_costs(costs, as_json=as_json)
            return
        found = stats(opened.repository, opened.branch)
        path = opened.repository.path
    if prometheus:
        for line in metrics(path, found):
            echo(line)
        return
    if as_json:
        echo_json(stats_document(found))
        return
    echo_table(_rows(found), right=(1,), styles=("dim", "", "dim"), droppable=(2,))


def _echo_costs(costs: list[Cost], *, as_json: bool) -> None:
    if as_json:
        for cost in reversed(costs):
            echo_json(cost_document(cost))
        return
    heads = ["", "", "made", "size", "new", "of size", "stored", "smaller", "alone"]
    rows = [
        [
            cost.version.name,
            short_id(cost.version.id),
            human_time(cost.version.commit.time_ns),
            human_size(cost.version.commit.root.size),
            human_size(cost.new_bytes),
            f"{cost.new_share:.1%}",
            human_size(cost.new_stored),
            f"{cost.compression_ratio:.1f}x",
            human_size(cost.alone_bytes),
        ]
        for cost in reversed(costs)
    ]
    echo_table([heads, *rows], right=range(3, 9), styles=_STYLES, droppable=(1, 7, 5, 2, 6, 3))


_STYLES = ("yellow", "dim", "", "", "", "dim", "", "dim", "")


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
