"""`vfs completion`: the scripts that make shells propose versions, paths and names, and their installation."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vfs.cli.arguments.completion_scripts import SHELLS, script
from vfs.cli.command import json_option, vfs_command
from vfs.cli.terminal.output import echo, echo_json
from vfs.errors import InvalidInput, NotFound
from vfs.model.names import show_path

_PLACES = {
    "bash": ("XDG_DATA_HOME", ".local/share", "bash-completion/completions/vfs"),
    "zsh": ("XDG_DATA_HOME", ".local/share", "zsh/site-functions/_vfs"),
    "fish": ("XDG_CONFIG_HOME", ".config", "fish/completions/vfs.fish"),
}
"""Where each shell looks: the variable with the directory, the directory in the home without it, the file."""

_NEXT = {
    "bash": "New shells know it where bash-completion is installed; else put this into ~/.bashrc: . {path}",
    "zsh": "Put this into ~/.zshrc, before `compinit`: fpath=({folder} $fpath)",
    "fish": "New shells know it.",
}


@vfs_command(
    "completion",
    "vfs completion --install           for the shell of $SHELL, where that shell looks",
    "vfs completion --install zsh",
    "vfs completion bash > FILE         the script alone",
)
@click.argument("shell", required=False, type=click.Choice(list(SHELLS)))
@click.option("--install", is_flag=True, help="Write the script where the shell looks for scripts of this user.")
@json_option
@click.pass_context
def command(ctx: click.Context, shell: str | None, install: bool, as_json: bool) -> None:
    """Make the shell complete versions, names and paths.

    Prints the script that does so, or installs it. Commands, options, tags, branches, remotes and runs are proposed
    as well, those of the repository that the command line would use.
    """
    chosen = shell if shell is not None else _shell_of_the_user()
    text = script(chosen, ctx.find_root().command)
    if not install:
        if as_json:
            echo_json({"shell": chosen, "script": text})
        else:
            echo(text.rstrip("\n"))
        return
    path = _place(chosen)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not in place: a shell that starts meanwhile reads a whole script.
    made = path.with_name(f".{path.name}.{os.getpid()}")
    made.write_text(text, encoding="utf-8")
    made.replace(path)
    if as_json:
        echo_json({"shell": chosen, "path": str(path)})
        return
    echo(f"Wrote {show_path(os.fsencode(path))}.")
    echo(f"  {_NEXT[chosen].format(path=path, folder=path.parent)}")


def _shell_of_the_user() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise InvalidInput(
            f"$SHELL is {name!r}, for which there is no completion" if name else "$SHELL does not say which shell",
            hint=f"Name one of {', '.join(SHELLS)}.",
        )
    return name


def _place(shell: str) -> Path:
    variable, fallback, file = _PLACES[shell]
    # A relative one is to be ignored, as the specification of these variables says.
    given = os.environ.get(variable, "")
    if os.path.isabs(given):
        return Path(given, file)
    home = os.environ.get("HOME", "")
    if not home:
        raise NotFound("HOME is not set, so there is no place for the script", hint="Print it instead, into a file.")
    return Path(home, fallback, file)
