"""Processes forked from one that has imported the program: a start takes 5 ms, not 300.

A process has its own arguments, environment, current directory and streams, runs one function and ends as the
interpreter ends, but takes no module apart, which takes as long as a mount: `vfs.__main__.main` for a command,
`support.mount_daemon.main` for a mount's daemon. What only a start from nothing shows is in tests/cli/test_start_up.py.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from vfs.native.session import SWITCH

_ROOT = Path(__file__).resolve().parents[2]
_REQUEST_BYTES_MAX = 1 << 17
_ANSWER_BYTES_MAX = 64
_RUN_TIMEOUT_S = 300.0

_SERVE = r"""
import atexit, gc, importlib, io, json, os, select, socket, sys, threading, time
from contextlib import suppress

from vfs.cli.command_table import COMMANDS
import vfs.__main__, vfs.cli.main, vfs.fuse.mount, support.mount_daemon

for entry in COMMANDS.values():
    importlib.import_module(entry.module)
gc.freeze()
requests = socket.socket(fileno=int(sys.argv[1]))
requests_number = requests.fileno()
waiting = select.poll()
waiting.register(requests, select.POLLIN)
running = {}


def started(child, streams, answers):
    for stream in streams:
        os.close(stream)
    handle = os.pidfd_open(child)
    reply = socket.socket(fileno=answers)
    # Who asked may have ended.
    with suppress(OSError):
        socket.send_fds(reply, [json.dumps(child).encode()], [handle])
    running[handle] = child, reply
    waiting.register(handle, select.POLLIN)


def ended(handle):
    child, reply = running.pop(handle)
    waiting.unregister(handle)
    os.close(handle)
    _, status = os.waitpid(child, 0)
    with suppress(OSError), reply:
        reply.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())


def become(request):
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    for name, value in request["settings"].items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    sys.argv = request["words"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        stream = open(number, "rb" if number == 0 else "wb", closefd=False)
        made = io.TextIOWrapper(stream, old.encoding, old.errors, line_buffering=number == 2)
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


def leave(status):
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(status)
    os._exit(status or 0)


def next_request():
    while True:
        for handle, _ in waiting.poll():
            if handle != requests_number:
                ended(handle)
                continue
            data, descriptors, _, _ = socket.recv_fds(requests, 1 << 17, 4)
            if not data:
                sys.exit(0)
            *streams, answers = descriptors
            child = os.fork()
            if not child:
                return data, streams
            started(child, streams, answers)


data, streams = next_request()
request = json.loads(data)
for number, descriptor in enumerate(streams):
    os.dup2(descriptor, number)
for connection in (requests, *(reply for _, reply in running.values())):
    connection.detach()
os.closerange(3, 1 << 20)
os.chdir(request["directory"])
become(request)
module, _, function = request["main"].rpartition(".")
leave(getattr(importlib.import_module(module), function)())
"""


class ForkedProcess:
    """A process that the server forked: as subprocess.Popen, though another process waits for it. Any thread may ask.

    `stdout` is the reading end of its output, where the starter asked for one.
    """

    def __init__(self, words: Sequence[str], answers: socket.socket, stdout: IO[str] | None) -> None:
        self.args = words
        self.stdout = stdout
        self._answers = answers
        data, (self._handle,), _, _ = socket.recv_fds(answers, _ANSWER_BYTES_MAX, 1)
        self.pid = int(data)

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self.poll()

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._answers.close()
        os.close(self._handle)
        if self.stdout is not None:
            self.stdout.close()

    def poll(self) -> int | None:
        """Returns its exit status, None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Returns its exit status when it has ended; raises subprocess.TimeoutExpired."""
        ready, _, _ = select.select([self._answers], [], [], timeout)
        if not ready:
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self.args), timeout)
        return int(self._answers.recv(_ANSWER_BYTES_MAX, socket.MSG_PEEK))

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it runs."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that others are forked from. Any thread may start one.

    `native`: the value of VFS_NATIVE, which the program reads when it is imported.
    """

    def __init__(self, native: str | None) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE, str(theirs.fileno())],
                cwd="/",
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tests'}",
                    **({} if native is None else {SWITCH: native}),
                    **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the process; those that it forked go on."""
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
        done = self.run_bytes(words, directory, environment, timeout_s, settings)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def run_bytes(
        self,
        words: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        timeout_s: float,
        settings: Mapping[str, object],
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs `vfs WORDS` as `run` does; its output may be no text."""
        words = ["vfs", *words]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            streams = output.fileno(), errors.fileno()
            with self._start("vfs.__main__.main", words, directory, environment, settings, streams) as process:
                try:
                    status = process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
            texts = []
            for stream in (output, errors):
                stream.seek(0)
                texts.append(stream.read())
        return subprocess.CompletedProcess(words, status, *texts)

    def start(
        self, main: str, words: Sequence[str], directory: Path, environment: Mapping[str, str], errors: int
    ) -> ForkedProcess:
        """Starts the function `module.NAME` with arguments; its errors go to a descriptor, its output to `stdout`."""
        reading, writing = os.pipe()
        try:
            return self._start(main, words, directory, environment, {}, (writing, errors), open(reading))
        finally:
            os.close(writing)

    def _start(
        self,
        main: str,
        words: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        settings: Mapping[str, object],
        streams: tuple[int, int],
        stdout: IO[str] | None = None,
    ) -> ForkedProcess:
        request = {
            "main": main,
            "words": list(words),
            "directory": os.fspath(directory),
            "environment": dict(environment),
            "settings": dict(settings),
        }
        data = json.dumps(request).encode()
        assert len(data) <= _REQUEST_BYTES_MAX
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, open(os.devnull, "rb") as nothing:
            socket.send_fds(self._requests, [data], [nothing.fileno(), *streams, theirs.fileno()])
        return ForkedProcess(words, answers, stdout)


def run_vfs(
    *words: str | Path, directory: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `vfs WORDS` in a directory (None: this process's), with this process's environment and more variables."""
    environment = {**os.environ, **(variables or {})}
    where = Path.cwd() if directory is None else directory
    return fork_server(environment).run([*map(str, words)], where, environment, _RUN_TIMEOUT_S, {})


@cache
def _server(native: str | None) -> ForkServer:
    return ForkServer(native)


def fork_server(environment: Mapping[str, str]) -> ForkServer:
    """Returns the process of this test run that processes with an environment are forked from."""
    return _server(environment.get(SWITCH))
