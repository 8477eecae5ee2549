"""`docs/commands.md`, written from the command table: `python -m vfs.cli.documentation.reference > docs/commands.md`.

The options of each command are in its help and its manual page (vfs/cli/documentation/manpages.py).
"""

from __future__ import annotations

import sys

from vfs.cli.command_table import GROUPS
from vfs.cli.main import STATUSES

_HEAD = """\
# Commands

Written by `python -m vfs.cli.documentation.reference`; do not edit. Options and examples of a command:
`vfs help COMMAND`, or `man vfs-COMMAND` with a wheel of `scripts/wheels`, whose pages
`python -m vfs.cli.documentation.manpages FOLDER` writes.

**The repository** is the one around the current directory (inside a mount or a repository), or the one that `--repo`
or `-R`, before or after the command, or `VFS_REPO` names. `--repo` may name a mount; its branch is used then.

| a version | means | | a path in a mount | shows |
|---|---|---|---|---|
| `v3`, `@v3` | by number | | `@v3/` | version 3, read-only |
| `latest`, `v3~2` | the newest; two before `v3` | | `@latest~1/` | the one before the newest |
| `paper`, `relabel` | by tag or branch | | `@/branches/relabel/` | another branch, to write in |
| `3f9a02c1` | by commit id, 8 digits or more | | `@v1..@v2/added/` | the files that came in between |
| `2026-11-01`, `2026-11-01T12:00` | the last one at that time | | `labels.csv@@/` | every version of one file |

**Paths** follow the version; `vfs diff FILE` takes a path alone, and `v3/images` is both. A relative path starts at
the current directory inside a mount, elsewhere at the version's root, where `/…` always starts. A word that is both
counts as the version, in `log` and `blame` as the path; `./v3` is a path.

**Times** are local, with their offset; a date without one is local, `2026-11-01T12:00+01:00` and `…Z` state theirs.
Where clocks are set back, a time that occurs twice lasts until the second. `gc`, names in a mount and JSON use UTC.

**Output.** Results go to standard output, errors, progress and warnings to standard error. A terminal gets colours
(`--color=always|auto|never`), a pager, and lists cut to its width. With `--json` there is one object a line; names that
are not UTF-8 have the lone surrogates of `surrogateescape`.
"""


VARIABLES = (
    ("VFS_REPO", "The repository, where neither `--repo` nor the current directory says which."),
    ("VFS_AUTHOR", "Who commits; else user@host."),
    ("VISUAL, EDITOR", "What `vfs commit` without `-m` opens on a terminal."),
    ("VFS_PAGER, PAGER", "What shows long output on a terminal; else `less -FRX`. `cat` or nothing: no pager."),
    (
        "VFS_RUN",
        "The run that a program belongs to; a worker elsewhere joins it by this.",
    ),
    (
        "VFS_METRICS, VFS_DATA",
        "For a program that vfs starts: the file to write metrics into, and the path of the data.",
    ),
    ("NO_COLOR", "No colour, if not empty."),
    ("TZ", "The local zone."),
)


def reference() -> str:
    """Returns the whole page."""
    parts = [_HEAD]
    for title, entries in GROUPS:
        parts.append(f"\n**{title}**\n\n")
        parts += [f"    {entry.name:<12}{entry.summary}\n" for entry in entries]
    parts.append("\n| exit status | meaning |\n|---|---|\n")
    parts += [f"| {status} | {meaning} |\n" for status, meaning in STATUSES]
    parts.append("\n| variable | meaning |\n|---|---|\n")
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in VARIABLES]
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
