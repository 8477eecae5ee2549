"""`vfs lineage`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from vfs.api.lineage_documents import lineage_document
from vfs.cli.arguments.lineage_targets import find_target, find_used
from vfs.cli.command import CountType, Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.display.lineage_output import dot_lines, tree_lines
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.runs.recorded_run import mount_of_words
from vfs.cli.terminal.output import echo, echo_err, echo_json, terminal_width
from vfs.cli.terminal.progress import StageBar
from vfs.control.mount_points import live_mounts
from vfs.formats.quantities import human_count
from vfs.repo.lineage.lineage_nodes import Lineage, RunNode
from vfs.repo.lineage.origins import made_by
from vfs.repo.lineage.uses import used_by
from vfs.repo.runs.run_tables import RunTables


@vfs_command(
    "lineage",
    "vfs lineage models/model.pt                     what made this file, down to the first inputs",
    "vfs lineage ~/Downloads/model.onnx              a file anywhere: found by its content, whatever its name",
    "vfs lineage r17                                 what a run read, and what made that",
    "vfs lineage v12                                 what made the files of a version",
    "vfs lineage --used-by train/cat/0412.png        which runs opened this file, in any version",
    "vfs lineage --used-by train/cat/0412.png@v12    ... with the content that it has in version 12",
    "vfs lineage --used-by v12 --dot | dot -Tsvg     as a picture",
    is_paged=True,
)
@click.argument("words", metavar="FILE | VERSION | RUN", nargs=-1, required=True)
@click.option("--used-by", "is_used_by", is_flag=True, help="What used it: runs, what they wrote, what used that.")
@click.option("--depth", type=CountType(min=1), help="Follow at most this many runs in a row.")
@click.option("--dot", "as_dot", is_flag=True, help="Print a graph for Graphviz.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation, words: tuple[str, ...], is_used_by: bool, depth: int | None, as_dot: bool, as_json: bool
) -> None:
    """Show what made a file, a version or a run; with --used-by what used it.

    A file outside of the mount begins with /, ./, ../ or ~, and is found by its content. A file without a version is
    the newest one; --used-by then finds every run that opened the path, whatever it held, also if it was erased. Runs
    are known by their records (`vfs run`): what ran without one is not seen. With --json one object: nodes and edges.
    """
    if as_dot and as_json:
        raise click.UsageError("--dot and --json are two forms of output: choose one.")
    if len(words) > 2:
        raise click.UsageError("Name one FILE, VERSION or RUN; a file may follow its version.")
    _choose_repository(invocation, words)
    with open_repository(invocation) as opened:
        target = find_used(opened, words) if is_used_by else find_target(opened, words)
        with StageBar() as bar:
            tables = RunTables.open(opened.repository, lambda done, total: bar("reading records of runs", done, total))
        with tables:
            answer = used_by if is_used_by else made_by
            graph = answer(opened.repository, tables, target, depth=depth)
        if as_json:
            echo_json(lineage_document(graph))
        elif as_dot:
            for line in dot_lines(graph):
                echo(line)
        else:
            _echo(graph)


def _choose_repository(invocation: Invocation, words: Sequence[str]) -> None:
    """Works on the mount that an argument has a path in, else on the one around, else on the only one."""
    if invocation.repository is not None:
        return
    mount = mount_of_words(words)
    if mount is None and not os.environ.get("VFS_REPO"):
        mounts = live_mounts()
        here = Path(os.getcwd())
        is_around = any(here.is_relative_to(place) for one in mounts for place in (one.path, one.repository))
        if not is_around and len({one.repository for one in mounts}) == 1:
            mount = mounts[-1]
    if mount is not None:
        invocation.repository = str(mount.path)


def _echo(graph: Lineage) -> None:
    for line in tree_lines(graph, terminal_width()):
        echo(line)
    runs = [node for node in graph.nodes.values() if isinstance(node, RunNode) and node.id != graph.target]
    if graph.direction == "used-by":
        written = sum(node.run.outputs for node in runs)
        if runs:
            echo_err(f"{human_count(len(runs), 'run')} used it, which wrote {human_count(written, 'file')}.")
        else:
            echo_err("No recorded run used it.")
    elif not graph.edges:
        echo_err("Nothing is known of what made it. `vfs run -- COMMAND` records what a program reads and writes.")
    for note in graph.notes:
        echo_err(f"Note: {note}.")
