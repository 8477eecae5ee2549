"""`vfs`: finds the command, runs it, and reports errors as a message, a hint and an exit status."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vfs import __version__
from vfs.api.hints import hint_text
from vfs.cli.command import NOTHING_CHANGED, Invocation, PromptAborted, VfsCommand, colour_option, set_repository
from vfs.cli.command_table import COMMANDS, GROUPS, CommandEntry
from vfs.cli.display.version_format import safe_text
from vfs.cli.terminal.output import OUTPUT, choose_colour, echo, echo_err, flush_output, style, wrapped
from vfs.errors import VfsError, describe_error, has_path

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETION = "_VFS_COMPLETE"
"""The variable by which a shell asks for completions (vfs/cli/arguments/completion_scripts.py)."""
INTERRUPTED_STATUS = 130
BROKEN_PIPE_STATUS = 141
UNEXPECTED_STATUS = 70
"""Exit status of a defect in the program (`EX_SOFTWARE`)."""

STATUSES = (
    (0, "success; for `diff`: no differences; for `fsck`: no damage"),
    (
        1,
        (
            "`diff`: differences; `fsck`: damage; `merge`: conflicts; `commit`, `import`: no change; `export`: losses; "
            "`bisect`: several versions left; `pin --check`: not the same; a question that was answered with no"
        ),
    ),
    (2, "misuse: unknown options, missing or impossible arguments"),
    (3, "the operation failed: something does not exist, is in the way, or the operating system refused"),
    (4, "another process holds or has changed what the command needs, or it would lose changes"),
    (5, "stored data is damaged"),
    (6, "the repository needs a newer program, or the system lacks something"),
    (UNEXPECTED_STATUS, "a defect in the program"),
    (INTERRUPTED_STATUS, "stopped by Ctrl-C"),
    (BROKEN_PIPE_STATUS, "the reader of the output stopped reading"),
)
"""Exit statuses and what they mean."""


class NoSuchCommand(click.UsageError):
    """An unknown command; `hint` names the command that does the same as in other tools, where that is known."""

    def __init__(self, word: str, ctx: click.Context) -> None:
        super().__init__(f"No such command {word!r}.", ctx)
        from vfs.cli.command_suggestions import meant_command

        self.hint = meant_command(word, COMMANDS)


class CommandGroup(click.Group):
    """The group of all commands; a command's module is imported when the command is requested."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of the commands in the order of the help."""
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that the first word names; raises a usage error that suggests a similar one."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise NoSuchCommand(args[0], ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command with a name, None for an unknown name."""
        if cmd_name == "help":
            return _help
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Returns the commands, or options, that a shell proposes, from the table: it imports no command's module."""
        if incomplete and not incomplete[0].isalnum():
            return click.Command.shell_complete(self, ctx, incomplete)
        from click.shell_completion import CompletionItem

        entries = [*COMMANDS.values(), CommandEntry("help", "Show the help of a command, or of all.", "")]
        fitting = [entry for entry in entries if entry.name.startswith(incomplete)]
        return [CompletionItem(entry.name, help=entry.summary.rstrip(".")) for entry in fitting]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by group, from the table: help imports no command's module."""
        for title, entries in GROUPS:
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries], col_max=8)


def _set_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Invocation).debug = value


def _commands(ctx: click.Context, _parameter: click.Parameter, start: str) -> list[CompletionItem[str]]:
    return ctx.find_root().command.shell_complete(ctx, start)


@click.command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]", shell_complete=_commands)
@click.pass_context
def _help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, or of all."""
    above = ctx.parent
    assert above is not None
    if not words:
        echo(above.get_help())
        return
    name, command, _ = cli.resolve_command(above, list(words))
    assert command is not None
    echo(command.get_help(click.Context(command, info_name=name, parent=above)))


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`vfs COMMAND --help` shows examples. A version is written v3, latest, a tag, a commit id (8 digits or "
    "more) or a date (2026-11-01, 2026-11-01T12:00+01:00); v3~2 is two before v3.",
)
@click.option(
    "--repo",
    "-R",
    metavar="REPO",
    expose_value=False,
    callback=set_repository,
    help="The repository to work on; else the one around the current directory, else VFS_REPO.",
)
@colour_option
@click.option("--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show the traceback of an error.")
@click.version_option(__version__, message="vfs %(version)s", help="Print the program's version.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Every version of your data is a directory."""
    ctx.ensure_object(Invocation).command = ctx.invoked_subcommand
    if ctx.invoked_subcommand is None:
        echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit status; the only place that reports errors to the user."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    invocation = Invocation()
    choose_colour("auto")
    _open_closed_streams()
    if (instruction := os.environ.get(COMPLETION)) is not None:
        # A shell asks what could follow: the words are in the environment.
        answer = importlib.import_module("vfs.cli.arguments.completion_scripts").answer(instruction, cli, invocation)
        sys.stdout.write(answer + "\n")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # In every locale: a character that it lacks is written as an escape and raises no error.
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(words, invocation)
    finally:
        _leave_streams()


def _run(words: list[str], invocation: Invocation) -> int:
    try:
        result = cli.main(args=words, prog_name="vfs", standalone_mode=False, obj=invocation)
        flush_output()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        return _report_misuse(error)
    except PromptAborted:
        echo_err(f"{_name()} stopped. {NOTHING_CHANGED}")
        return INTERRUPTED_STATUS
    except (click.Abort, KeyboardInterrupt):
        return _report_interrupted(invocation)
    except SystemExit:
        # click raises this, in this mode, when the reader of the output has stopped.
        return BROKEN_PIPE_STATUS
    except VfsError as error:
        return report(error, debug=invocation.debug)
    except OSError as error:
        if error.errno == errno.EPIPE:
            return BROKEN_PIPE_STATUS
        return _report_os_error(error, debug=invocation.debug)
    except click.ClickException as error:
        echo_err(f"{_name()} {error.format_message()}")
        return error.exit_code
    except Exception as error:  # noqa: BLE001  Every other error is reported as a defect.
        return _report_defect(error, debug=invocation.debug)


def _open_closed_streams() -> None:
    """Opens closed standard streams as /dev/null: else the next open file, such as an index, would get the output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _name() -> str:
    return style("vfs:", "red", "bold", stream=sys.stderr)


def report(error: VfsError, *, debug: bool = False) -> int:
    """Writes an error's message and hint, and returns its exit status."""
    if debug:
        _print_traceback()
    _echo_error(error.message, hint_text(error.hint))
    return error.exit_status


def _print_traceback() -> None:
    import traceback

    traceback.print_exc()


def _echo_error(message: str, *hints: str) -> None:
    """Writes an error, with no line wider than the terminal that standard error may be."""
    # File names and arguments may be in them.
    echo_err(wrapped(f"{_name()} {safe_text(message)}", stream=sys.stderr))
    for hint in filter(None, hints):
        echo_err(wrapped(f"  {safe_text(hint)}", stream=sys.stderr))


def _report_misuse(error: click.UsageError) -> int:
    command = error.ctx.command_path if error.ctx is not None else "vfs"
    hint = error.hint if isinstance(error, NoSuchCommand) else ""
    if isinstance(error, click.NoSuchOption):
        from vfs.cli.command_suggestions import meant_option

        hint = meant_option(command.rpartition(" ")[2], error.option_name)
    _echo_error(error.format_message(), hint, f"Try `{command} --help`.")
    return 2


def _report_os_error(error: OSError, *, debug: bool) -> int:
    if debug:
        _print_traceback()
    if not has_path(error):
        # Code that writes to standard output directly, such as help, does not name it.
        try:
            flush_output()
        except OSError as of_output:
            error = of_output
    message, hint = describe_error(error)
    if error.filename == OUTPUT:
        hint = "The output is incomplete; `vfs operations` lists the operations."
    return report(VfsError(message, hint=hint))


def _report_defect(error: Exception, *, debug: bool) -> int:
    if debug:
        _print_traceback()
    echo_err(f"{_name()} this is a defect in the program: {type(error).__name__}: {error}")
    if not debug:
        echo_err("  Run it again as `vfs --debug …` and report what it prints. Committed versions are not affected.")
    return UNEXPECTED_STATUS


def _report_interrupted(invocation: Invocation) -> int:
    command = cli.get_command(click.Context(cli), invocation.command) if invocation.command else None
    safe = command.interrupted if isinstance(command, VfsCommand) else NOTHING_CHANGED
    echo_err(f"{_name()} stopped. {safe}")
    return INTERRUPTED_STATUS


def _leave_streams() -> None:
    """Drops output that cannot be written: else the interpreter flushes again at exit, fails and exits with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
