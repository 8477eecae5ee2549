"""What `gc`, `forget` and `purge` share: confirming a permanent removal, and reporting what was removed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from vfs.cli.command import Declined, PromptAborted
from vfs.cli.terminal.output import echo, warn
from vfs.errors import InvalidInput
from vfs.formats.quantities import human_count, human_size
from vfs.model.objects import Version
from vfs.repo.retention.gc import Collected

_SHOWN = 5


def names_of(versions: Sequence[Version]) -> str:
    """Returns the names of versions, the middle of many left out."""
    names = [version.name for version in versions]
    return ", ".join(names) if len(names) <= _SHOWN else f"{names[0]}, {names[1]}, … {names[-1]}"


def confirm(question: str, *, yes: bool) -> None:
    """Asks the user, before anything is changed.

    Raises Declined for a no, PromptAborted, and InvalidInput where standard input is no terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput("this cannot be undone, and there is no terminal to ask at", hint="Add --yes to confirm it.")
    try:
        is_meant = click.confirm(question, err=True)
    except click.Abort:
        raise PromptAborted from None
    if not is_meant:
        raise Declined("nothing was changed")


def confirm_forgetting(versions: Sequence[Version], *, yes: bool) -> None:
    """Asks whether to forget versions, if there are any; see `confirm`."""
    if versions:
        confirm(f"Forget {human_count(len(versions), 'version')} ({names_of(versions)}) for good?", yes=yes)


def echo_collected(found: Collected, *, dry_run: bool) -> None:
    """Writes what was removed, or would be."""
    if not found.packs:
        if found.bytes_left:
            echo(_left(found))
        elif found.forgotten:
            echo("No space is freed now: their objects are shared, or young (`--grace`).")
        else:
            echo("Nothing to remove.")
        return
    verb = "Would free about" if dry_run else "Freed"
    echo(
        f"{verb} {human_size(max(0, found.bytes_before - found.bytes_after))}: "
        f"{human_count(found.objects, 'object')} of {human_count(found.packs, 'pack')}; "
        f"packs take {human_size(found.bytes_after)}{'' if dry_run else ' now'}."
    )
    if found.bytes_left:
        echo(f"  {_left(found)}")


def echo_checked(found: Collected) -> None:
    """Writes the result of the check of all objects on disk after a removal."""
    if found.objects_unneeded:
        count = human_count(found.objects_unneeded, "object")
        warn(f"{count} that nothing needs are on disk again: `vfs gc --thorough --grace 0` removes them")
    else:
        count = human_count(found.objects_checked, "object")
        echo(f"  Checked: of the {count} on disk, each is needed by something that is left.")


def _left(found: Collected) -> str:
    return (
        f"{human_size(found.bytes_left)} that nothing needs (before compression) stay: young, or among much that is "
        "needed. --thorough and --grace 0 remove them."
    )
