"""The author's name and the message of a commit."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import unicodedata

import click

from vfs.errors import InvalidInput

_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_EDIT = """
# Why is this a version? Lines that start with # do not count; an empty message commits nothing.
"""


def author() -> str:
    """Returns VFS_AUTHOR, else user@host."""
    named = os.environ.get("VFS_AUTHOR", "").strip()
    if named:
        return _checked(named, "VFS_AUTHOR")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A user number without an account, as in many containers.
        user = str(os.getuid())
    return _checked(f"{user}@{socket.gethostname()}", "the name of the user or the machine; set VFS_AUTHOR:")


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


def checked_message(text: str) -> str:
    """Returns a message without empty lines around it; raises InvalidInput for an empty one."""
    text = text.replace("\r\n", "\n").strip("\n").rstrip()
    if not text.strip():
        raise InvalidInput("the message is empty", hint="Say in a few words why this is a version.")
    return _checked(text, "the message", allowed="\n\t")


def _checked(text: str, what: str, allowed: str = "") -> str:
    """Returns a text to be stored with a version; raises InvalidInput where it would control a terminal."""
    bad = next((each for each in text if each not in allowed and _is_control(each)), None)
    if bad is not None:
        raise InvalidInput(f"{what} has a control character: {bad!a}", hint="Take it out; nothing was changed.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput(f"{what} is not valid UTF-8", hint="Write it in UTF-8: it is kept for ever.") from None
    return text


def _is_control(character: str) -> bool:
    """Returns True if a character moves the cursor, starts an escape sequence, or changes the text direction."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(character) in _DIRECTIONS


def message_option(function: click.decorators.FC) -> click.decorators.FC:
    """Adds `-m`."""
    return click.option("-m", "--message", metavar="TEXT", help="Why: asked for in an editor where it is missing.")(
        function
    )
