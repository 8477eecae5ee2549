"""The author's name and the message of a commit."""

from __future__ import annotations

import os
import sys

import click

from vfs.repo.authorship import checked_author, checked_message, default_author

_EDIT = """
# Why is this a version? Lines that start with # do not count; an empty message commits nothing.
"""


def author() -> str:
    """Returns VFS_AUTHOR, else user@host."""
    named = os.environ.get("VFS_AUTHOR", "").strip()
    if named:
        return checked_author(named, "VFS_AUTHOR")
    return default_author()


def message_from(given: str | None, summary: str = "") -> str:
    """Returns the message that was given, or opens the editor for one on a terminal.

    `summary` is shown in the editor. Raises a usage error without either, InvalidInput for an empty message.
    """
    text = given
    if text is None:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise click.UsageError("Missing option '-m': say why this is a version, -m MESSAGE.")
        comments = "".join(f"# {line}\n" for line in summary.splitlines())
        edited = click.edit(_EDIT + comments, require_save=True) or ""
        text = "\n".join(line for line in edited.splitlines() if not line.startswith("#"))
    return checked_message(text)


def message_option(function: click.decorators.FC) -> click.decorators.FC:
    """Adds `-m`."""
    return click.option("-m", "--message", metavar="TEXT", help="The reason; without it an editor asks for one.")(
        function
    )
