"""`vfs cat`."""

from __future__ import annotations

import click

from vfs.cli.arguments.version_or_path import looks_like_a_version, split_arguments, version_of
from vfs.cli.command import Invocation, branch_option, repository_option, vfs_command
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo_raw
from vfs.errors import InvalidInput, IsADirectory
from vfs.model.layout import LATEST
from vfs.model.names import show_path
from vfs.model.objects import Kind
from vfs.store.trees.directories import file_content, resolve_path
from vfs.store.trees.file_reader import FileReader

_PIECE_BYTES = 4 * 1024 * 1024


@vfs_command(
    "cat",
    "vfs cat v3 labels.csv                 a file as it was in version 3",
    "vfs cat 2026-11-01 labels.csv | head  as it was at the end of that day",
)
@click.argument("words", metavar="[VERSION] PATH...", nargs=-1, required=True)
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, words: tuple[str, ...]) -> None:
    """Print files of a version, one after the other, without a mount. Without VERSION it is the newest."""
    if len(words) == 1 and looks_like_a_version(words[0]):
        raise click.UsageError(f"Name a file of {words[0]} as well.")
    with open_repository(invocation) as opened:
        source = opened.repository.store
        versions, paths = split_arguments(opened, words)
        if not paths:
            raise click.UsageError(f"Name a file of {words[0]} as well.")
        root = (versions or [version_of(opened, LATEST)])[0].commit.root
        for path in paths:
            directory, entry = resolve_path(source, root, path)
            if entry.kind == Kind.DIR or directory is None:
                raise IsADirectory(f"{show_path(path) or '/'} is a directory", hint="`vfs ls` lists it.")
            if entry.kind != Kind.FILE:
                raise InvalidInput(
                    f"{show_path(path)} is no regular file", hint="`vfs show VERSION PATH` describes it."
                )
            reader = FileReader(source, file_content(source, directory, entry))
            for offset in range(0, reader.size, _PIECE_BYTES):
                echo_raw(reader.read(offset, _PIECE_BYTES))
