"""`vfs doctor`."""

from __future__ import annotations

from vfs import __version__
from vfs.cli.command import json_option, vfs_command
from vfs.cli.mounting.machine import Finding, findings
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo, echo_json, style

LACKING_STATUS = 6
_MARKS = {"ok": ("ok", "green"), "missing": ("MISSING", "red"), "optional": ("-", "yellow")}


@vfs_command(
    "doctor",
    "vfs doctor                     what is installed, what FUSE can do here, and what to do about it",
    "vfs doctor --json | jq 'select(.state == \"missing\")'",
)
@json_option
def command(as_json: bool) -> int:
    """Check what this machine has for mounts, and say what to do.

    Makes a mount of its own for a moment, on a temporary directory. Exit status 6 if repositories cannot be mounted
    here; everything but mounts works all the same.
    """
    found = list(findings())
    lacking = any(each.state == "missing" for each in found)
    if as_json:
        for each in found:
            echo_json({"name": each.name, "state": each.state, "text": each.text, "advice": each.advice or None})
        return LACKING_STATUS if lacking else 0
    echo(f"vfs {__version__}")
    echo_table([_row(each) for each in found])
    for each in found:
        if each.advice:
            echo(f"{each.name}: {each.advice}")
    echo(style("Repositories cannot be mounted here.", "red") if lacking else "Repositories can be mounted here.")
    return LACKING_STATUS if lacking else 0


def _row(each: Finding) -> list[str]:
    text, colour = _MARKS[each.state]
    return [style(text, colour), each.name, each.text]
