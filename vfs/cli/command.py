"""What all commands share: help with examples, `--repo`, `--json`, and the message after Ctrl-C."""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from vfs.cli.terminal.output import choose_colour
from vfs.cli.terminal.pager import paged
from vfs.errors import VfsError

_LONGEST = 1e9
"""Longest duration, in its unit: times are whole numbers of nanoseconds."""

F = TypeVar("F", bound=Callable[..., Any])

COMPLETED = {
    "at_version": "version",
    "bad": "version",
    "branch": "branch",
    "branches": "branch",
    "branch name": "branch",
    "clone url": "dir",
    "code": "version",
    "data": "version",
    "fetch name": "remote",
    "fsck named": "dir",
    "goods": "version",
    "into": "path",
    "joined": "run",
    "merge name": "branch",
    "model": "version",
    "mount repo": "dir",
    "paths": "path",
    "pull name": "remote",
    "push name": "remote",
    "read": "version",
    "remote name": "remote",
    "remote url": "dir",
    "repeated": "run",
    "repo": "dir",
    "run metrics": "file",
    "run outputs": "path",
    "runs words": "run",
    "switch name": "branch",
    "tag name": "tag",
    "version": "version",
    "versions": "version",
    "words": "version-or-path",
}
"""What a shell proposes for a text: by the command and the parameter, or by the parameter in all commands."""


class CompletedText(click.types.StringParamType):
    """A text for which a shell proposes values of a kind, one of those in `COMPLETED`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Returns the proposals."""
        return importlib.import_module("vfs.cli.arguments.completion_values").propose(self.kind, ctx, incomplete)  # type: ignore[no-any-return]


NOTHING_CHANGED = "Nothing was changed."


class Declined(VfsError):
    """The user answered a question with no."""

    code = "declined"
    exit_status = 1


class PromptAborted(click.Abort):
    """The user ended the command at a question, before anything was changed."""


class CountType(click.IntRange):
    """A count; larger ones than the machine's integers are cut to the largest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the parsed number."""
        return min(super().convert(value, param, ctx), sys.maxsize)


class DurationType(click.FloatRange):
    """A duration from 0 on, in hours or days; `inf` and larger ones than 100,000 years are cut to that."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the parsed number."""
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number.", param, ctx)
        return min(found, _LONGEST)


class DirectoryType(click.Path):
    """A directory outside versions. An empty argument is refused: pathlib reads it as the current directory.

    `is_asked`: whether the filesystem is; a mount that has no daemon yet would not answer.
    """

    def __init__(self, *, is_asked: bool = True) -> None:
        super().__init__(path_type=Path)
        self._is_asked = is_asked

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns the parsed path."""
        if value == "":
            self.fail("it is empty. Write `.` for the current directory.", param, ctx)
        return super().convert(value, param, ctx) if self._is_asked else Path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Returns the word for the shell's own completion of directories."""
        return importlib.import_module("vfs.cli.arguments.completion_values").propose("dir", ctx, incomplete)  # type: ignore[no-any-return]


class Invocation(msgspec.Struct):
    """Global options of one invocation, the command's name, and when it started (Unix time)."""

    repository: str | None = None
    debug: bool = False
    command: str | None = None
    branch: str | None = None
    asked_ns: int = msgspec.field(default_factory=time.time_ns)


class VfsCommand(click.Command):
    """A command whose help ends with examples, and that has a message for an interruption by Ctrl-C."""

    examples: tuple[str, ...] = ()
    interrupted: str = NOTHING_CHANGED
    is_paged: bool = False

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; its output goes through a pager where it `is_paged`."""
        if not self.is_paged or ctx.params.get("as_json"):
            return super().invoke(ctx)
        with paged():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples verbatim, one a line."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def vfs_command(
    name: str, *examples: str, interrupted: str = NOTHING_CHANGED, is_paged: bool = False
) -> Callable[[F], VfsCommand]:
    """Decorates a function as the command `vfs NAME`; its docstring is the help, the examples follow it.

    `interrupted`: the message after Ctrl-C. `is_paged`: its output goes through a pager on a terminal.
    """

    def decorate(function: F) -> VfsCommand:
        command = click.command(name, cls=VfsCommand)(colour_option(function, hidden=True))
        command.is_paged = is_paged
        command.examples = examples
        command.interrupted = interrupted
        for parameter in command.params:
            kind = COMPLETED.get(f"{name} {parameter.name}", COMPLETED.get(parameter.name or ""))
            if kind is not None and type(parameter.type) is click.types.StringParamType:
                parameter.type = CompletedText(kind)
        return command

    return decorate


def set_repository(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Stores the value of `--repo`, while arguments are parsed."""
    if value is not None:
        ctx.ensure_object(Invocation).repository = value


def _choose_colour(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        choose_colour(value)


def colour_option(function: F, *, hidden: bool = False) -> F:
    """Adds `--color`, which may stand before the command or after it."""
    return click.option(
        "--color",
        type=click.Choice(["always", "auto", "never"]),
        expose_value=False,
        callback=_choose_colour,
        hidden=hidden,
        help="Colour: auto is where output is a terminal and NO_COLOR is unset.",
    )(function)


def repository_option(function: F) -> F:
    """Adds `--repo`, which may stand before the command or after it."""
    return click.option(
        "--repo", "-R", metavar="REPO", expose_value=False, callback=set_repository, help="The repository to work on."
    )(function)


def _set_branch(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).branch = value


def branch_option(function: F) -> F:
    """Adds `--branch`, for commands that work on a branch or name versions by its numbers."""
    return click.option(
        "--branch",
        "-b",
        metavar="NAME",
        expose_value=False,
        callback=_set_branch,
        help="The branch to work on; else the one around the current directory, else the current one.",
    )(function)


def key_value_pairs(_ctx: click.Context, _parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Returns the values of an option as pairs. Raises a usage error for one that is none."""
    pairs: dict[str, str] = {}
    for text in value:
        key, equals, rest = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is no pair: write it as KEY=VALUE.")
        pairs[key] = rest
    return pairs


def meta_option(function: F) -> F:
    """Adds `--meta KEY=VALUE`, as often as wanted, given to the function as the dictionary `meta`."""
    return click.option(
        "--meta",
        metavar="KEY=VALUE",
        multiple=True,
        callback=key_value_pairs,
        help="Metadata of the version, such as metrics.",
    )(function)


def json_option(function: F) -> F:
    """Adds `--json`, given to the function as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(function)


def no_hooks_option(function: F) -> F:
    """Adds `--no-hooks`, given to the function as `no_hooks`."""
    return click.option("--no-hooks", is_flag=True, help="Do not run the repository's hooks/pre-commit.")(function)
