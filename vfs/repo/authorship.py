"""Who makes a version, and why: texts that are stored with it, and that must not control a terminal."""

from __future__ import annotations

import os
import unicodedata

from vfs.errors import InvalidInput

_DIRECTIONS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def default_author() -> str:
    """Returns user@host. Raises InvalidInput for names that control a terminal."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A user number without an account, as in many containers.
        user = str(os.getuid())
    return checked_author(f"{user}@{socket.gethostname()}", "the name of the user or the machine; set VFS_AUTHOR:")


def checked_author(text: str, what: str = "the author") -> str:
    """Returns an author's name; raises InvalidInput where it would control a terminal, with `what` it is."""
    return _checked(text, what)


def checked_message(text: str) -> str:
    """Returns a message without empty lines around it; raises InvalidInput for an empty one."""
    text = text.replace("\r\n", "\n").strip("\n").rstrip()
    if not text.strip():
        raise InvalidInput("the message is empty", hint="Say in a few words why this is a version.")
    return _checked(text, "the message", allowed="\n\t")


def without_controls(text: str, allowed: str = "") -> str:
    """Returns a text of another program with a mark for each character that would control a terminal."""
    return "".join("\ufffd" if each not in allowed and _is_control(each) else each for each in text)


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
