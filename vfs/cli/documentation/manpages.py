"""The manual pages, written from the parser by `python -m vfs.cli.documentation.manpages FOLDER`, for wheels."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from vfs import __version__
from vfs.cli.command import VfsCommand
from vfs.cli.command_table import GROUPS
from vfs.cli.documentation.reference import VARIABLES
from vfs.cli.main import STATUSES, cli

SECTION = 1


def pages() -> dict[str, str]:
    """Returns the pages by file name: one for the program, one for each command."""
    above = click.Context(cli, info_name="vfs", help_option_names=["-h", "--help"])
    made = {f"vfs.{SECTION}": _program(above)}
    for _, entries in GROUPS:
        for entry in entries:
            command = cli.get_command(above, entry.name)
            if not isinstance(command, VfsCommand):
                raise TypeError(f"{entry.name} is not made by vfs.cli.command.vfs_command")
            made[f"vfs-{entry.name}.{SECTION}"] = _command(above, command, entry.summary)
    return made


def _head(name: str, summary: str) -> list[str]:
    first = summary[:1].lower() + summary[1:].rstrip(".")
    title = name.upper().replace(" ", "-")
    return [
        f'.TH "{title}" {SECTION} "" "vfs {__version__}" "vfs"',
        ".SH NAME",
        f"{_text(name.replace(' ', '-'))} \\- {_text(first)}",
        ".SH SYNOPSIS",
    ]


def _program(context: click.Context) -> str:
    lines = _head("vfs", inspect.cleandoc(cli.help or ""))
    lines += [r"\fBvfs\fR [OPTION]... COMMAND [ARGUMENT]...", ".SH DESCRIPTION", _text(cli.epilog or "")]
    lines += [".SH OPTIONS", *_options(cli, context)]
    for title, entries in GROUPS:
        lines.append(f'.SH "{title.upper()}"')
        for entry in entries:
            lines += [".TP", rf"\fBvfs\-{_text(entry.name)}\fR({SECTION})", _text(entry.summary)]
    lines.append('.SH "EXIT STATUS"')
    for status, meaning in STATUSES:
        lines += [".TP", rf"\fB{status}\fR", _text(meaning)]
    lines.append(".SH ENVIRONMENT")
    for name, meaning in VARIABLES:
        lines += [".TP", rf"\fB{_text(name)}\fR", _text(meaning)]
    return "\n".join(lines) + "\n"


def _command(above: click.Context, command: VfsCommand, summary: str) -> str:
    context = click.Context(command, info_name=command.name, parent=above)
    lines = _head(f"vfs {command.name}", summary)
    pieces = " ".join(command.collect_usage_pieces(context))
    lines += [rf"\fBvfs {_text(command.name or '')}\fR {_text(pieces)}", ".SH DESCRIPTION"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        # Click's mark for a paragraph whose lines stay as they are.
        if paragraph.startswith("\b\n"):
            lines += [".PP", ".nf", *map(_text, paragraph.splitlines()[1:]), ".fi"]
        else:
            lines += [".PP", _text(" ".join(paragraph.split()))]
    lines += [".SH OPTIONS", *_options(command, context)]
    if command.examples:
        lines += [".SH EXAMPLES", ".nf", *map(_text, command.examples), ".fi"]
    lines += ['.SH "SEE ALSO"', rf"\fBvfs\fR({SECTION})"]
    return "\n".join(lines) + "\n"


def _options(command: click.Command, context: click.Context) -> list[str]:
    lines: list[str] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            lines += [".TP", rf"\fB{_text(record[0])}\fR", _text(" ".join(record[1].split()))]
    return lines


def _text(text: str) -> str:
    """Returns text for the formatter: nothing in it is a request or an escape."""
    escaped = text.replace("\\", r"\e")
    for character, escape in zip("-^~`'", (r"\-", r"\(ha", r"\(ti", r"\(ga", r"\(aq"), strict=True):
        escaped = escaped.replace(character, escape)
    return rf"\&{escaped}" if escaped.startswith((".", r"\(aq")) else escaped


def write(folder: Path) -> None:
    """Writes all pages into a directory, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
