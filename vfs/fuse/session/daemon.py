"""The daemon in the background: the command returns when the mount answers, or with the daemon's error.

The process forks before an event loop, a thread or a database exists in it; none of them survives a fork.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import signal
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from vfs.backend.rooted_path import RootedPath
from vfs.errors import Hint, VfsError, describe_error
from vfs.fuse.session.log_format import FORMAT, formatter

log = logging.getLogger(__name__)

_LOG_BYTES_MAX = 1 << 20
_LOG_FILES = 3
_REPORT_BYTES_MAX = 1 << 20

Ready = Callable[[Sequence[str]], None]
"""Reports that a mount answers, with warnings for the user."""
Serve = Callable[[Ready], None]
"""Serves a mount until it ends; calls its argument once the mount answers."""


class _Report(msgspec.Struct):
    """What the daemon tells the command that started it."""

    ready: bool
    warnings: tuple[str, ...] = ()
    code: str = ""
    message: str = ""
    hint: Hint | str = ""
    exit_status: int = 1


class DaemonFailed(VfsError):
    """The daemon could not mount; has the message, code and exit status of the daemon's error."""

    def __init__(self, report: _Report) -> None:
        super().__init__(report.message, hint=report.hint)
        self.code = report.code
        self.exit_status = report.exit_status


def detach(serve: Serve, log_path: RootedPath, *, log_json: bool = False) -> tuple[str, ...]:
    """Runs `serve` in a process of its own and returns its warnings when it is ready.

    Must be called while the process has one thread. Raises DaemonFailed with what `serve` raised before it was ready.
    The daemon leads a session of its own, works in `/` and logs to `log_path`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(serve, log_path, writing, log_json=log_json)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read(_REPORT_BYTES_MAX)
    os.waitpid(child, 0)
    if not text:
        raise VfsError("the mount's daemon ended without a message", hint=f"Its log is {log_path}.")
    report = msgspec.json.decode(text, type=_Report)
    if not report.ready:
        raise DaemonFailed(report)
    return report.warnings


def _run(serve: Serve, log_path: RootedPath, writing: int, *, log_json: bool) -> NoReturn:
    """Runs as the daemon; never returns into the command's code."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            # The middle process ends: the daemon can never get a terminal, and no parent has to wait for it.
            os._exit(0)
        status = _serve(serve, log_path, writing, log_json=log_json)
    finally:
        logging.shutdown()
        os._exit(status)


def _serve(serve: Serve, log_path: RootedPath, writing: int, *, log_json: bool) -> int:
    told = False

    def tell(report: _Report) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(writing, msgspec.json.encode(report))
            os.close(writing)

    try:
        warnings = _daemonize(log_path, log_json=log_json)
    except VfsError as error:
        # Without a log, the command's error is the only report.
        tell(_Report(False, (), error.code, error.message, error.hint, error.exit_status))
        return error.exit_status
    try:
        serve(lambda more: tell(_Report(True, (*warnings, *more))))
    except VfsError as error:
        log.error("%s", error)
        tell(_Report(False, (), error.code, error.message, error.hint, error.exit_status))
        return error.exit_status
    except OSError as error:
        log.exception("the mount ended with an error of the system")
        message, hint = describe_error(error)
        hint = hint or f"The log is {log_path}."
        tell(_Report(False, (), VfsError.code, message, hint, VfsError.exit_status))
        return VfsError.exit_status
    except BaseException as error:
        log.exception("the mount ended with an unexpected error")
        tell(_Report(False, (), "error", f"{type(error).__name__}: {error}", f"The log is {log_path}."))
        return 1
    return 0


def _daemonize(log_path: RootedPath, *, log_json: bool) -> tuple[str, ...]:
    """Makes this process a daemon with a log; returns a warning if it can have none."""
    os.chdir("/")
    # Also those that its parent ignored: it has no terminal whose signals could reach it by accident.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings: tuple[str, ...] = ()
    handler: logging.Handler
    try:
        words, handler = _open_log(log_path)
    except OSError as error:
        # A full or read-only disk does not prevent a mount for reading.
        warnings = (f"the daemon keeps no log: {describe_error(error)[0]}",)
        words, handler = os.open(os.devnull, os.O_WRONLY), logging.NullHandler()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (words, 1), (words, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(words)
    handler.setFormatter(formatter(FORMAT, as_json=log_json))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return warnings


def _open_log(log_path: RootedPath) -> tuple[int, logging.Handler]:
    with log_path.parent.opened(create=True, mode=0o700) as opened:
        words = log_path.open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        # Open for the daemon's life: the handler rotates the log by path, and would follow symbolic links in it.
        name = f"/proc/self/fd/{os.dup(opened)}/{log_path.name}"
    return words, logging.handlers.RotatingFileHandler(name, maxBytes=_LOG_BYTES_MAX, backupCount=_LOG_FILES)
