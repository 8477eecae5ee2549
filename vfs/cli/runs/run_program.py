"""Running a program for `vfs run`: terminal, job control, signals and exit status stay the program's own.

The program is a child in the same process group, on the same terminal. This process is its subreaper, waits, and copies
what goes to a terminal or a pipe, to keep the end of it: a terminal is replaced by a pseudo-terminal of the same size
for standard output and error alone; standard input, `/dev/tty` and the controlling terminal stay.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pty
import resource
import select
import signal
import stat
import struct
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from vfs.cli.runs.private_view import Pin, enter

TAIL_BYTES_MAX = 1 << 20
_COPY_BYTES = 1 << 16
_SUBREAPER = 36
_FORWARDED = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTSTP,
)
_HEARD = frozenset({*_FORWARDED, signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT})
_SI_KERNEL = 0x80
NOT_FOUND_STATUS, NOT_EXECUTABLE_STATUS = 127, 126


@dataclass(slots=True)
class Ended:
    """How a program ended: its wait status, the end of its output, and how many bytes it was in all."""

    wait_status: int
    tail: bytes
    output_bytes: int
    failure: str = ""
    """Why it could not be started, empty if it was."""

    @property
    def exit_status(self) -> int:
        """The status that a shell shows: 128 and the number of a signal."""
        if os.WIFSIGNALED(self.wait_status):
            return 128 + os.WTERMSIG(self.wait_status)
        return os.waitstatus_to_exitcode(self.wait_status)


def run_program(
    command: Sequence[str], variables: Mapping[str, str], *, cwd: str, pin: Pin | None, keeps_output: bool
) -> Ended:
    """Runs a program and returns how it ended. Must be called in a process with one thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SUBREAPER, 1, 0, 0, 0)
    channels = _Channels(keeps_output)
    said, says = os.pipe2(os.O_CLOEXEC)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become(command, variables, cwd, pin, channels, says, blocked)
    try:
        os.close(says)
        channels.begin()
        failure = _all_of(said).decode("utf-8", "surrogateescape")
        status = _wait(child, channels)
        channels.end()
    finally:
        os.close(said)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return Ended(status, channels.tail(), channels.total, failure)


def _become(
    command: Sequence[str],
    variables: Mapping[str, str],
    cwd: str,
    pin: Pin | None,
    channels: _Channels,
    says: int,
    blocked: set[int | signal.Signals],
) -> NoReturn:
    """Becomes the program, in the child."""
    status = NOT_EXECUTABLE_STATUS
    try:
        channels.attach()
        if pin is not None:
            enter(pin)
        else:
            os.chdir(cwd)
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            # Python has changed them; a signal that the shell ignores stays ignored.
            if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.execvpe(command[0], list(command), dict(variables))
    except OSError as error:
        status = NOT_FOUND_STATUS if error.errno == errno.ENOENT else NOT_EXECUTABLE_STATUS
        with suppress(OSError):
            os.write(says, (error.strerror or str(error)).encode())
    finally:
        os._exit(status)


def _all_of(descriptor: int) -> bytes:
    data = b""
    while piece := os.read(descriptor, 4096):
        data += piece
    return data


def _wait(child: int, channels: _Channels) -> int:
    """Waits for the program, and forwards signals that were sent to this process alone; reaps what it left."""
    while True:
        with suppress(ChildProcessError):
            while True:
                found, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if found == 0:
                    break
                if found == child and os.WIFSTOPPED(status):
                    _stop_too(child)
                elif found == child:
                    return status
        info = signal.sigwaitinfo(_HEARD)
        number = signal.Signals(info.si_signo)
        if number == signal.SIGWINCH:
            channels.resize()
        elif number in _FORWARDED and (info.si_code != _SI_KERNEL or _is_ours_alone(number)):
            # A terminal sends its other signals to the program too.
            with suppress(ProcessLookupError):
                os.kill(child, number)


def _is_ours_alone(number: signal.Signals) -> bool:
    """Returns True for a signal that a terminal sends to this process alone: its end, to the leader of a session."""
    return number == signal.SIGHUP and os.getsid(0) == os.getpid()


def _stop_too(child: int) -> None:
    """Stops this process where the shell is to learn that the program was stopped, and continues both.

    This process handles the terminal's SIGTSTP instead of being stopped by it: stopped between the two lines below, it
    would stop once more when the shell has continued it.
    """
    try:
        # The controlling terminal, whatever the standard input is.
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_ours = os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
    if is_ours:
        os.kill(os.getpid(), signal.SIGSTOP)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGCONT)


@dataclass(slots=True)
class _Channel:
    """One place that output goes to: copied from `source` to `target`."""

    source: int
    target: int
    inside: int
    streams: list[int] = field(default_factory=list)
    is_terminal: bool = False
    is_open: bool = True


class _Channels:
    """The program's standard output and error."""

    def __init__(self, keeps_output: bool) -> None:
        self._channels: list[_Channel] = []
        self._files: list[tuple[int, int]] = []
        self._kept = bytearray()
        self.total = 0
        self._thread: threading.Thread | None = None
        self._wakes, self._waking = os.pipe2(os.O_CLOEXEC)
        if keeps_output:
            for stream in (1, 2):
                with suppress(OSError, termios.error):
                    self._add(stream)

    def _add(self, stream: int) -> None:
        status = os.fstat(stream)
        for channel in self._channels:
            if os.path.samestat(status, os.fstat(channel.target)):
                channel.streams.append(stream)
                return
        if os.isatty(stream):
            outside, inside = pty.openpty()
            _copy_terminal(stream, inside)
            self._channels.append(_Channel(outside, os.dup(stream), inside, [stream], is_terminal=True))
        elif stat.S_ISFIFO(status.st_mode):
            outside, inside = os.pipe()
            self._channels.append(_Channel(outside, os.dup(stream), inside, [stream]))
        elif stat.S_ISREG(status.st_mode) and all(
            not os.path.samestat(status, os.fstat(one)) for one, _ in self._files
        ):
            appends = fcntl.fcntl(stream, fcntl.F_GETFL) & os.O_APPEND
            self._files.append((stream, status.st_size if appends else os.lseek(stream, 0, os.SEEK_CUR)))

    def attach(self) -> None:
        """Connects the streams of this process, in the child."""
        for channel in self._channels:
            for stream in channel.streams:
                os.dup2(channel.inside, stream)

    def begin(self) -> None:
        """Begins to copy."""
        for channel in self._channels:
            os.close(channel.inside)
            os.set_blocking(channel.source, False)
        if self._channels:
            self._thread = threading.Thread(target=self._copy, name="output", daemon=True)
            self._thread.start()

    def resize(self) -> None:
        """Gives the pseudo-terminal the size of the terminal."""
        for channel in self._channels:
            if channel.is_terminal and channel.is_open:
                with suppress(OSError):
                    fcntl.ioctl(channel.source, termios.TIOCSWINSZ, _size_of(channel.target))

    def end(self) -> None:
        """Copies what the program has written, and leaves what its children still write to a process of their own."""
        os.write(self._waking, b".")
        if self._thread is not None:
            self._thread.join()
        if any(channel.is_open for channel in self._channels) and os.fork() == 0:
            try:
                os.setsid()
                os.closerange(3, min(channel.source for channel in self._channels))
                while self._step(None):
                    pass
            finally:
                os._exit(0)
        for channel in self._channels:
            if channel.is_open:
                os.close(channel.source)
            os.close(channel.target)
        os.close(self._wakes)
        os.close(self._waking)

    def _copy(self) -> None:
        while self._step(self._wakes):
            pass

    def _step(self, wakes: int | None) -> bool:
        """Copies once; returns False when all is copied: at the end of all channels, or when nothing is left."""
        open_ones = {channel.source: channel for channel in self._channels if channel.is_open}
        if not open_ones:
            return False
        ready, _, _ = select.select([*open_ones, *([wakes] if wakes is not None else [])], [], [])
        for source in ready:
            if source in open_ones:
                self._move(open_ones[source])
        # The program has ended: what it wrote is there by now.
        return not (wakes is not None and ready == [wakes])

    def _move(self, channel: _Channel) -> None:
        try:
            data = os.read(channel.source, _COPY_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # The last process has closed the pseudo-terminal.
            data = b""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[_write(channel.target, rest) :]
        except OSError:
            # Its reader has ended; the program learns of it by its next write.
            data = b""
        if not data:
            channel.is_open = False
            os.close(channel.source)
            return
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self.total += len(data)
        self._kept += data
        if len(self._kept) > 2 * TAIL_BYTES_MAX:
            del self._kept[:-TAIL_BYTES_MAX]

    def tail(self) -> bytes:
        """Returns the end of the output."""
        for stream, start in self._files:
            with suppress(OSError), open(f"/proc/self/fd/{stream}", "rb") as file:
                end = os.fstat(stream).st_size
                file.seek(max(start, end - TAIL_BYTES_MAX))
                self._kept += file.read(TAIL_BYTES_MAX)
                self.total += max(end - start, 0)
        return bytes(self._kept[-TAIL_BYTES_MAX:])


def _write(target: int, data: memoryview) -> int:
    try:
        return os.write(target, data)
    except BlockingIOError:
        select.select([], [target], [])
        return 0


def _size_of(terminal: int) -> bytes:
    return fcntl.ioctl(terminal, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))


def _copy_terminal(terminal: int, other: int) -> None:
    """Gives a pseudo-terminal the size and modes of a terminal, which processes what comes out itself."""
    modes = termios.tcgetattr(terminal)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(other, termios.TCSANOW, modes)
    with suppress(OSError):
        fcntl.ioctl(other, termios.TIOCSWINSZ, _size_of(terminal))


def end_as(ended: Ended) -> None:
    """Ends this process by the signal that ended the program, if one did."""
    if not os.WIFSIGNALED(ended.wait_status):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.WTERMSIG(ended.wait_status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
