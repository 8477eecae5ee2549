"""`hooks/pre-commit`: a program of the repository's owner that may refuse a commit.

The command runs it, never the daemon: it has the caller's rights and environment.
A repository may come from another user, so a hook runs only where it, its directory and the repository belong to the
caller, and no other user can write to them.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from vfs.cli.terminal.output import echo_err, warn
from vfs.errors import NotPermitted, VfsError
from vfs.model.names import show_path
from vfs.repo.paths import HOOK

RUNNING = "VFS_HOOK"
"""The environment variable that is set while a hook runs: a command that the hook starts must not wait for it."""
_OUTPUT_BYTES_MAX = 16 * 1024
_ENDING_S = 2.0
_PIECE_BYTES = 1 << 16


class HookRefused(VfsError):
    """The hook failed or could not run; nothing was committed."""

    code = "hook-refused"
    exit_status = 3


def run_hook(repository: Path, paths: Iterable[bytes], variables: Mapping[str, str], directory: Path | None) -> None:
    """Runs the repository's hook, if it has one, with changed paths on its standard input, each ended by a zero byte.

    `variables` are added to the environment; it runs in `directory` (None: in the repository). Raises HookRefused with
    the hook's output; NotPermitted for a hook that is not safe to run.
    """
    hook = repository / HOOK
    if not _may_run(repository, hook):
        return
    if os.environ.get(RUNNING):
        raise HookRefused(f"a hook is running ({os.environ[RUNNING]}): what it starts cannot commit")
    environment = {**os.environ, **variables, RUNNING: HOOK, "VFS_REPO": str(repository)}
    interrupts = _HeldInterrupts()
    with tempfile.TemporaryFile() as names:
        for path in paths:
            names.write(path + b"\0")
        names.seek(0)
        try:
            process = subprocess.Popen(
                [str(hook)],
                stdin=names,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=directory if directory is not None else repository,
                env=environment,
                process_group=0,
            )
        except OSError as error:
            interrupts.release()
            raise HookRefused(
                f"{hook} cannot be started: {error.strerror or error}",
                hint="Does it begin with `#!` and a program that is there? --no-hooks goes on without it.",
            ) from error
    try:
        interrupts.release()
        words = _read_output(process)
    except BaseException:
        _end(process)
        raise
    _require_success(hook, process.returncode, words)


class _HeldInterrupts:
    """Holds SIGINT back until `release`: in the middle of a start it would leave a hook running."""

    def __init__(self) -> None:
        self._came = False
        self._before = signal.getsignal(signal.SIGINT)
        # Where it is ignored, the hook ignores it too; it interrupts the main thread alone.
        self._holds = self._before is not signal.SIG_IGN and threading.current_thread() is threading.main_thread()
        if self._holds:
            signal.signal(signal.SIGINT, self._hold)

    def _hold(self, *_: object) -> None:
        self._came = True

    def release(self) -> None:
        """Handles it as before, and what has come meanwhile."""
        if self._holds:
            signal.signal(signal.SIGINT, self._before)
        if self._came:
            signal.raise_signal(signal.SIGINT)


def _require_success(hook: Path, status: int, words: str) -> None:
    if status == 0:
        if words:
            echo_err(words)
        return
    how = f"ended with status {status}" if status > 0 else f"was ended by {_signal_name(-status)}"
    said = ":\n" + "\n".join("  " + line for line in words.splitlines()) if words else ""
    raise HookRefused(
        f"{HOOK} refused: it {how}{said}",
        hint="Nothing was committed. Fix what it reports, or skip it with --no-hooks.",
    )


def _may_run(repository: Path, hook: Path) -> bool:
    """Returns True if there is a hook to run. Raises NotPermitted for one that another user can write to."""
    try:
        statuses = [(path, path.lstat()) for path in (repository, hook.parent, hook)]
    except (FileNotFoundError, NotADirectoryError):
        return False
    for path, status in statuses:
        why = ""
        if not (stat.S_ISREG if path == hook else stat.S_ISDIR)(status.st_mode):
            why = "is no regular file" if path == hook else "is no directory"
        elif status.st_uid != os.geteuid():
            why = "belongs to another user"
        elif stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
            why = "can be written to by other users"
        if why:
            raise NotPermitted(
                f"{show_path(os.fsencode(hook))} is not run: {show_path(os.fsencode(path))} {why}",
                hint="Look at it and make it yours (`chown`, `chmod go-w`), or skip it with --no-hooks.",
            )
    if not os.access(hook, os.X_OK):
        warn(f"{show_path(os.fsencode(hook))} is not executable and was not run (`chmod +x` makes it run)")
        return False
    return True


def _read_output(process: subprocess.Popen[bytes]) -> str:
    """Waits until the hook ends and returns the beginning of its output; its children may go on writing."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    os.set_blocking(output, False)
    kept = bytearray()
    size = 0
    ended = os.pidfd_open(process.pid)
    try:
        waiting = select.poll()
        waiting.register(output, select.POLLIN)
        waiting.register(ended, select.POLLIN)
        is_over = False
        while not is_over:
            ready = {descriptor for descriptor, _ in waiting.poll()}
            is_over = ended in ready
            if output in ready:
                data = _read(output)
                if not data:
                    waiting.unregister(output)
                size += len(data)
                kept += data[: _OUTPUT_BYTES_MAX - len(kept)]
        while size < _OUTPUT_BYTES_MAX and (data := _read(output)):
            size += len(data)
            kept += data[: _OUTPUT_BYTES_MAX - len(kept)]
    finally:
        os.close(ended)
    process.wait()
    process.stdout.close()
    words = bytes(kept).decode(errors="backslashreplace").rstrip()
    return words + (f"\n… and more than {size - len(kept):,} bytes" if size > len(kept) else "")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _PIECE_BYTES)
    except BlockingIOError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the hook and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
