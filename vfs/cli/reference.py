"""`docs/commands.md`, written from the parser: `python -m vfs.cli.reference > docs/commands.md`."""

from __future__ import annotations

import inspect
import sys

import click

from vfs.cli.command import VerbCommand
from vfs.cli.main import GROUPS, STATUSES, cli

_HEAD = """\
# Commands

Written from the parser by `python -m vfs.cli.reference`; do not edit.

A command finds its repository from the current directory (inside a mount or a repository), from `--repo`/`-R`, which
may stand before or after the verb, or from `VFS_REPO`. `--repo` may also name a mount, whose branch it is then.

A **version** is written `v3` (or `@v3`), `latest`, a tag, a commit id (8 hex digits or more) or a date, `2026-11-01`
or `2026-11-01T12:00`: the last version at that time; `v3~2` is two before `v3`. It comes first, **paths** follow;
`vfs diff FILE` takes a path alone, and `v3/images` is both. Inside a mount a relative path starts at the current
directory, elsewhere at the version's root, where `/…` always starts. What is both a version and a path counts as the
version, in `log` and `blame` as the path; `./v3` is a path.

Times are local and printed with their offset. A date without one is local; `2026-11-01T12:00+01:00` and `…Z` say
theirs. Where clocks are set back, a time that is there twice lasts until the second; `gc` and names in a mount
(`MNT/@2026-11-01`) count in UTC.

Results go to standard output, everything else (errors, progress, warnings) to standard error. Progress is shown where
standard error is a terminal, colour where the stream is one and `NO_COLOR` is unset, or as `--color=always`, `auto` or
`never` says. On a terminal long output goes through a pager, and lists are cut to its width. With `--json`, times are
UTC and names that are no UTF-8 hold the lone surrogates of Python's `surrogateescape`.

"""


def reference() -> str:
    """Returns the whole page."""
    parts = [_HEAD, "| exit status | meaning |\n|---|---|\n"]
    parts += [f"| {status} | {meaning} |\n" for status, meaning in STATUSES]
    parts.append("\n| variable | meaning |\n|---|---|\n")
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in VARIABLES]
    context = click.Context(cli, info_name="vfs", help_option_names=["-h", "--help"])
    for title, verbs in GROUPS:
        parts.append(f"\n## {title}\n")
        for verb in verbs:
            command = cli.get_command(context, verb.name)
            if not isinstance(command, VerbCommand):
                raise TypeError(f"{verb.name} is not made by vfs.cli.command.verb")
            parts.append(_section(command, click.Context(command, info_name=verb.name, parent=context)))
    return "".join(parts)


VARIABLES = (
    ("VFS_REPO", "The repository, where neither `--repo` nor the current directory says which."),
    ("VFS_AUTHOR", "Who commits; else user@host."),
    ("VISUAL, EDITOR", "What `vfs commit` without `-m` opens on a terminal."),
    ("VFS_PAGER, PAGER", "What shows long output on a terminal; else `less -FRX`. `cat` or nothing: no pager."),
    ("NO_COLOR", "No colour, if not empty."),
    ("TZ", "The local zone."),
)


def _section(command: VerbCommand, context: click.Context) -> str:
    usage = " ".join(["vfs", command.name or "", *command.collect_usage_pieces(context)])
    lines = [f"\n### vfs {command.name}\n", f"    {usage}\n", f"{inspect.cleandoc(command.help or '')}\n"]
    named = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    options = [record for each in named if (record := each.get_help_record(context))]
    if options:
        lines.append("| option | meaning |\n|---|---|")
        lines += [f"| `{names}` | {text} |" for names, text in options]
        lines.append("")
    lines.append("```")
    lines += command.examples
    lines.append("```\n")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
