"""`vfs mounts`."""

from __future__ import annotations

import os

from vfs.cli.command import json_option, vfs_command
from vfs.cli.terminal.columns import echo_table
from vfs.cli.terminal.output import echo_err, echo_json
from vfs.control.mount_states import MountState, mount_states
from vfs.model.names import show_path

_ADVICE = {
    "dead": "A dead mount goes with `vfs umount MNT`; what was written into it is kept.",
    "stopped": "A stopped daemon goes on with `kill -CONT PID`.",
    "silent": "A daemon that does not answer may be busy; `kill PID` ends it, and what was written is kept.",
    "moved": "The repository of a mount was moved: move it back, or unmount, and mount it from where it is.",
}


@vfs_command(
    "mounts",
    "vfs mounts                                 all mounts that this user sees",
    "vfs mounts --json | jq -r 'select(.state == \"dead\").path'",
)
@json_option
def command(as_json: bool) -> None:
    """List the mounts and their daemons.

    Says where each is, of which repository and branch, and whether its daemon answers.
    Bind mounts of a part are listed with that part. Waits two seconds at most for each daemon.
    """
    seen: set[str] = set()
    rows = []
    for found in mount_states():
        seen.add(found.state)
        if as_json:
            echo_json(_document(found))
        else:
            rows.append(_row(found))
    if as_json:
        return
    if rows:
        echo_table([["mount", "repository", "branch", "", "daemon", "state"], *rows], right=(4,), droppable=(3,))
    else:
        echo_err("Nothing is mounted.")
    for state, advice in _ADVICE.items():
        if state in seen:
            echo_err(advice)


def _row(found: MountState) -> list[str]:
    mount = found.mount
    return [
        show_path(os.fsencode(mount.path)),
        show_path(os.fsencode(mount.repository)) + (f" ({show_path(mount.root)})" if mount.root else ""),
        found.branch if found.branch is not None else "?",
        "read-only" if mount.is_read_only else "",
        str(found.process) if found.process else "",
        found.state,
    ]


def _document(found: MountState) -> dict[str, object]:
    mount = found.mount
    return {
        "path": str(mount.path),
        "repository": str(mount.repository),
        "part": os.fsdecode(mount.root) or None,
        "branch": found.branch,
        "follows_current_branch": mount.branch is None,
        "read_only": mount.is_read_only,
        "process": found.process or None,
        "state": found.state,
    }
