"""`docs/commands.md`, written from the parser: `python -m vfs.cli.reference > docs/commands.md`."""

from __future__ import annotations

import inspect
import sys
from collections import Counter

import click

from vfs.cli.command import VfsCommand
from vfs.cli.command_table import GROUPS
from vfs.cli.main import STATUSES, cli

_HEAD = """\
# Commands

Written from the parser by `python -m vfs.cli.reference`; do not edit. `vfs help COMMAND` has examples.

A command finds its repository from the current directory (inside a mount or a repository), from `--repo`/`-R`, before
or after the command, or from `VFS_REPO`. `--repo` may name a mount, whose branch it then is.

A **version** is `v3` (or `@v3`), `latest`, a tag, a commit id (8 hex digits or more) or a date, `2026-11-01` or
`2026-11-01T12:00`: the last version at that time. `v3~2` is two before `v3`. **Paths** follow it; `vfs diff FILE` takes
a path alone, and `v3/images` is both. A relative path starts at the current directory inside a mount, elsewhere at the
version's root, where `/…` always starts. A word that is both counts as the version, in `log` and `blame` as the path;
`./v3` is a path.

Times are local, with their offset; a date without one is local, `2026-11-01T12:00+01:00` and `…Z` say theirs. Where
clocks are set back, a time that occurs twice lasts until the second. `gc`, names in a mount and JSON use UTC.

Results go to standard output, errors, progress and warnings to standard error. Progress is shown on a terminal, colour
where the stream is one and `NO_COLOR` is unset, or as `--color=always`, `auto` or `never` says. On a terminal long
output goes through a pager and lists are cut to its width. In JSON, names that are not UTF-8 hold the lone surrogates
of Python's `surrogateescape`.

Options that mean the same everywhere are only named below. `--help` goes with every command, `--repo` with all but
WITHOUT:

"""

_COMMON = ("--json", "--branch", "--repo", "--message", "--meta", "--yes", "--help")
"""Options that are described once, at the top, where a command gives them the words that most commands give them."""


def reference() -> str:
    """Returns the whole page."""
    context = click.Context(cli, info_name="vfs", help_option_names=["-h", "--help"])
    commands = [(title, [_command(context, entry.name) for entry in entries]) for title, entries in GROUPS]
    records = Counter(record for _, group in commands for command in group for record in _options(command, context))
    common = dict(_most_frequent(name, records) for name in _COMMON)
    without = [f"`{command.name}`" for _, group in commands for command in group if not _takes_repository(command)]
    named = [f"- `{names}`: {text}\n" for names, text in common.items()]
    parts = [_HEAD.replace("WITHOUT", ", ".join(without)), *named]
    parts.append("\n| exit status | meaning |\n|---|---|\n")
    parts += [f"| {status} | {meaning} |\n" for status, meaning in STATUSES]
    parts.append("\n| variable | meaning |\n|---|---|\n")
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in VARIABLES]
    for title, group in commands:
        parts.append(f"\n## {title}\n")
        parts += [_section(command, context, common) for command in group]
    return "".join(parts)


VARIABLES = (
    ("VFS_REPO", "The repository, where neither `--repo` nor the current directory says which."),
    ("VFS_AUTHOR", "Who commits; else user@host."),
    ("VISUAL, EDITOR", "What `vfs commit` without `-m` opens on a terminal."),
    ("VFS_PAGER, PAGER", "What shows long output on a terminal; else `less -FRX`. `cat` or nothing: no pager."),
    (
        "VFS_RUN",
        "The run that a program belongs to, by `vfs run`; set for a worker elsewhere, the worker belongs to it.",
    ),
    (
        "VFS_METRICS, VFS_DATA",
        "For a program that vfs starts: the file to write metrics into, and the path of the data.",
    ),
    ("NO_COLOR", "No colour, if not empty."),
    ("TZ", "The local zone."),
)


Record = tuple[str, str]
"""An option as help shows it: its names, and what it means."""


def _command(context: click.Context, name: str) -> VfsCommand:
    command = cli.get_command(context, name)
    if not isinstance(command, VfsCommand):
        raise TypeError(f"{name} is not made by vfs.cli.command.vfs_command")
    return command


def _options(command: VfsCommand, parent: click.Context) -> list[Record]:
    context = click.Context(command, info_name=command.name, parent=parent)
    named = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    return [record for each in named if (record := each.get_help_record(context))]


def _takes_repository(command: VfsCommand) -> bool:
    return any("--repo" in each.opts for each in command.params)


def _most_frequent(name: str, records: Counter[Record]) -> Record:
    return max((each for each in records if name in each[0].split(", ")[-1].split()), key=records.__getitem__)


def _section(command: VfsCommand, parent: click.Context, common: dict[str, str]) -> str:
    context = click.Context(command, info_name=command.name, parent=parent)
    operands = [piece for piece in command.collect_usage_pieces(context) if piece != context.command.options_metavar]
    title = " ".join(["vfs", command.name or "", *operands])
    lines = [f"\n### {title}\n", f"{inspect.cleandoc(command.help or '')}\n"]
    options = _options(command, parent)
    lines += [f"- `{names}`: {text}" for names, text in options if common.get(names) != text]
    shared = [names.split(", ")[-1].split()[0] for names, text in options if common.get(names) == text]
    shared = [name for name in shared if name not in ("--help", "--repo")]
    if shared:
        lines.append(f"- Also `{'`, `'.join(shared)}`.")
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
