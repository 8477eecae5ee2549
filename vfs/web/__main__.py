"""The server's process: `python -m vfs.web REPO`. The only importer of `uvicorn`.

It writes one line of JSON, with the address and its token, and then serves until it is ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from vfs.api.views.viewed_repository import ViewedRepository
from vfs.errors import VfsError
from vfs.web.application import application
from vfs.web.page_addresses import address
from vfs.web.rendering import compile_templates
from vfs.web.security import new_token

PORT = 8765
_PORTS_TRIED = 20
_FAILED_STATUS = 3
_BUSY_STATUS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until the process is ended; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m vfs.web")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--port", type=int, help=f"fails if it is taken; without it the first free one from {PORT}")
    parser.add_argument("--socket", type=Path, help="a Unix socket instead, for its owner alone")
    parser.add_argument("--branch")
    parser.add_argument("--until-input-ends", action="store_true", help="end when standard input does")
    chosen = parser.parse_args(arguments)
    token = new_token()
    if chosen.until_input_ends:
        threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        listening = _unix(chosen.socket) if chosen.socket is not None else _local(chosen.port)
    except OSError as error:
        where = chosen.socket if chosen.socket is not None else f"port {chosen.port or PORT}"
        sys.stderr.write(f"{where}: {error.strerror or error}\n")
        return _BUSY_STATUS
    with listening:
        try:
            with ViewedRepository.open(chosen.repository) as viewed:
                _serve(viewed, listening, token, chosen.branch, chosen.socket)
        except VfsError as error:
            sys.stderr.write(error.message + "\n")
            return error.exit_status
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            return _FAILED_STATUS
        finally:
            if chosen.socket is not None:
                chosen.socket.unlink(missing_ok=True)
    return 0


def _end_with_input() -> None:
    """Ends this process when its parent has ended, also where that was killed."""
    # Not through Python's buffer, whose lock would be held when this process ends in another way.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(
    viewed: ViewedRepository, listening: socket.socket, token: str, branch: str | None, path: Path | None
) -> None:
    config = uvicorn.Config(
        application(viewed, token), log_level="warning", access_log=False, server_header=False, timeout_keep_alive=30,
        limit_concurrency=100, timeout_graceful_shutdown=2, lifespan="off",
    )  # fmt: skip
    query = address("", [("branch", branch), ("token", token)])
    if path is not None:
        where = {"socket": os.path.abspath(path), "url": f"http://127.0.0.1{query}", "port": None}
    else:
        port = listening.getsockname()[1]
        where = {"socket": None, "url": f"http://127.0.0.1:{port}{query}", "port": port}
    compile_templates()
    # Connections wait in the socket's queue until the server takes them.
    sys.stdout.write(json.dumps(where) + "\n")
    sys.stdout.flush()
    server = uvicorn.Server(config)

    def end(*_: object) -> None:
        server.should_exit = True

    # Until the server handles the signal; then it raises it again, which would end this process before it cleans up.
    signal.signal(signal.SIGTERM, end)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def _local(port: int | None) -> socket.socket:
    """Returns a socket that listens on this machine alone. Raises OSError."""
    wanted = [port] if port is not None else [*range(PORT, PORT + _PORTS_TRIED), 0]
    for each in wanted:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A port that a closed server had is free at once; on Linux this shares it with no listener.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(("127.0.0.1", each))
            listening.listen(128)
        except OSError:
            listening.close()
            if each == wanted[-1]:
                raise
            continue
        return listening
    raise OSError("no port is free")


def _unix(path: Path) -> socket.socket:
    """Returns a Unix socket for its owner alone; one that a killed server left is replaced. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
                if trial.connect_ex(str(path)) == 0:
                    raise OSError(98, "another server listens there")
            path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


if __name__ == "__main__":
    sys.exit(main())
