"""Commands as processes of their own, forked from one that has imported the program: a start takes 5 ms, not 300.

A command has its own arguments, environment, current directory and streams, runs `vfs.__main__.main` and ends as the
interpreter ends. What only a start from nothing shows is in tests/cli/test_start_up.py.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_REQUEST_BYTES_MAX = 1 << 17

_SERVE = r"""
import gc, importlib, io, json, os, signal, socket, sys, time

from vfs.cli.command_table import COMMANDS
from vfs.__main__ import main
import vfs.cli.main, vfs.fuse.mount

for entry in COMMANDS.values():
    importlib.import_module(entry.module)
gc.freeze()
requests = socket.socket(fileno=int(sys.argv[1]))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def wait_for(child, reply):
    reply.send(json.dumps(child).encode())
    _, status = os.waitpid(child, 0)
    reply.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def become(request):
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    for name, value in request["settings"].items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    sys.argv = ["vfs", *request["words"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        stream = open(number, "rb" if number == 0 else "wb", closefd=False)
        made = io.TextIOWrapper(stream, old.encoding, old.errors, line_buffering=number == 2)
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


while True:
    data, descriptors, _, _ = socket.recv_fds(requests, 1 << 17, 4)
    if not data:
        break
    if os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    requests.close()
    *streams, answers = descriptors
    reply = socket.socket(fileno=answers)
    child = os.fork()
    if child:
        wait_for(child, reply)
    reply.close()
    request = json.loads(data)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, max(descriptors) + 1)
    os.chdir(request["directory"])
    become(request)
    sys.exit(main())
"""


class CommandServer:
    """The process that commands are forked from. Any thread may run one."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE, str(theirs.fileno())],
                cwd="/",
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(_ROOT),
                    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the process; commands that run go on."""
        self._requests.close()
        self._process.wait()

    def run(
        self,
        words: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        timeout_s: float,
        settings: Mapping[str, object],
    ) -> subprocess.CompletedProcess[str]:
        """Runs `vfs WORDS`; `settings` are values of the program's constants (`module.NAME`) for this command alone.

        Raises subprocess.TimeoutExpired; the command is killed then.
        """
        request = {
            "words": list(words),
            "directory": os.fspath(directory),
            "environment": dict(environment),
            "settings": dict(settings),
        }
        with (
            open(os.devnull, "rb") as nothing,
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
        ):
            streams = [nothing.fileno(), output.fileno(), errors.fileno()]
            status = self._status(json.dumps(request).encode(), streams, words, timeout_s)
            texts = []
            for stream in (output, errors):
                stream.seek(0)
                texts.append(stream.read().decode())
        return subprocess.CompletedProcess(["vfs", *words], status, *texts)

    def _status(self, request: bytes, streams: list[int], words: Sequence[str], timeout_s: float) -> int:
        """Starts a command and waits for it; returns its exit status, negative for a signal."""
        assert len(request) <= _REQUEST_BYTES_MAX
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(self._requests, [request], [*streams, theirs.fileno()])
            ours.settimeout(timeout_s)
            child = int(json.loads(ours.recv(64)))
            try:
                return int(json.loads(ours.recv(64)))
            except TimeoutError:
                os.kill(child, 9)
                raise subprocess.TimeoutExpired(["vfs", *words], timeout_s) from None


@cache
def command_server() -> CommandServer:
    """Returns the process that commands of this test run are forked from."""
    return CommandServer()
