"""`vfs ui`: starts the page's server in a process of its own and waits for it."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import webbrowser
from pathlib import Path

import click

from vfs.cli.command import Invocation, branch_option, json_option, repository_option, vfs_command
from vfs.cli.opening.open_repository import open_repository
from vfs.cli.terminal.output import echo, echo_json, flush_output
from vfs.errors import Unsupported

_PORT_MAX = 65_535
_SERVER = "vfs.web"
_LIBRARIES = ("starlette", "uvicorn", "jinja2")


class MissingServer(Unsupported):
    """The libraries of the page are not installed."""

    code = "missing-extra"


@vfs_command(
    "ui",
    "vfs ui                          a page of the repository around here; opens the browser, Ctrl-C ends it",
    "vfs ui --no-browser             only prints the address, for `ssh -L 9000:localhost:8765 HOST`",
    "vfs ui --port 9000              this port or none",
    "vfs ui --socket page.sock          a Unix socket, for `ssh -L 9000:/run/user/1000/page.sock HOST`",
    interrupted="The page has ended.",
)
@click.option(
    "--port", type=click.IntRange(1, _PORT_MAX), help="Listen on this port; else on the first free from 8765."
)
@click.option("--socket", type=click.Path(path_type=Path), help="Listen on a Unix socket instead of a port.")
@click.option("--no-browser", is_flag=True, help="Do not open the browser.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(invocation: Invocation, port: int | None, socket: Path | None, no_browser: bool, as_json: bool) -> int:
    """Show the repository in the browser: history, comparisons, tables, images, runs. It reads and changes nothing.

    The server listens on this machine alone, and answers only to the printed address: its token is a password. Through
    ssh any port works. With --json one object with url, port and socket is printed once the server listens.
    """
    if port is not None and socket is not None:
        raise click.UsageError("--port and --socket exclude each other.")
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingServer(
            f"the page needs {', '.join(missing)}", hint="pip install 'vfs-versions[ui,tables,images]' installs it."
        )
    with open_repository(invocation) as opened:
        path, branch = opened.place.repository, opened.branch
        current = opened.repository.current_branch
    # -P: no module comes from the current directory, which may be one of data.
    arguments = [sys.executable, "-P", "-m", _SERVER, "--until-input-ends", str(path)]
    arguments += ["--port", str(port)] if port is not None else []
    arguments += ["--socket", str(socket)] if socket is not None else []
    arguments += ["--branch", branch] if branch != current else []
    return _serve(arguments, as_json=as_json, no_browser=no_browser or socket is not None)


def _serve(arguments: list[str], *, as_json: bool, no_browser: bool) -> int:
    """Runs the server until it ends, and ends it with this process; returns the exit status."""
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            previous = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
            try:
                line = server.stdout.readline() if server.stdout is not None else ""
                if line:
                    _say(json.loads(line), as_json=as_json, no_browser=no_browser)
                status = server.wait()
            finally:
                signal.signal(signal.SIGTERM, previous)
        except BaseException:
            server.terminate()
            raise
    return 0 if status == -signal.SIGTERM else status


def _say(where: dict[str, str | None], *, as_json: bool, no_browser: bool) -> None:
    url = where["url"] or ""
    if as_json:
        echo_json(where)
    else:
        echo(f"Serving at {url}")
        if where["socket"]:
            echo(f"through the socket {where['socket']}")
        echo("Ctrl-C ends it.")
    flush_output()
    if not no_browser and not as_json:
        webbrowser.open(url)
