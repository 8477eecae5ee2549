"""Progress bars on standard error, where that is a terminal. The only importer of `tqdm`."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from vfs.cli.terminal.output import echo_err
from vfs.formats.quantities import human_size

TICK_S = 0.5
"""Delay before a bar appears, and the longest time between redraws."""
_SOONEST_S = 0.1
_WIDTH = 80
"""Columns of a terminal of unknown width."""


class Bar(ABC):
    """A line on standard error that is redrawn on progress, and at least every half second.

    A context manager: work that ends within the first half second shows nothing, and the line is removed at the end,
    so that later output is not mixed with it. Does nothing where standard error is no terminal.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None) -> None:
        self._clock = clock
        self._stream = stream if stream is not None else sys.stderr
        self._shown = self._stream.isatty()
        self._lock = threading.Lock()
        self._bar: Any = None
        self._ended = threading.Event()
        self._start_s = clock()
        self._next_s = self._start_s + TICK_S

    def __enter__(self) -> Self:
        if self._shown:
            threading.Thread(target=self._tick_on, name="progress", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._ended.set()
            if self._bar is not None:
                self._bar.close()

    def waiting(self, words: str) -> None:
        """Shows what the work waits for; on a terminal only."""
        if self._shown:
            with self._lock:
                if self._bar is not None:
                    self._bar.clear()
                echo_err(f"vfs: {words}")

    def draw(self) -> None:
        """Redraws the line, unless the work has ended."""
        with self._lock:
            if self._ended.is_set():
                return
            self._next_s = self._clock() + _SOONEST_S
            # Imported when it is needed: a command that never shows a bar does not pay for it.
            tqdm = importlib.import_module("tqdm").tqdm
            if self._bar is None:
                # It gets finished lines: the size of the terminal that it finds out itself may be 0.
                self._bar = tqdm(leave=False, file=self._stream, ncols=1000, nrows=24, bar_format="{desc}", position=0)
            done, total, shape = self._state()
            elapsed_s = max(self._clock() - self._start_s, 0.001)
            line = tqdm.format_meter(done, total, elapsed_s, ncols=_width(self._stream), **shape)
            self._bar.set_description_str(line)

    def _redraw_if_due(self) -> None:
        if self._shown and self._clock() >= self._next_s:
            self.draw()

    @abstractmethod
    def _state(self) -> tuple[int, int | None, dict[str, Any]]:
        """Returns the work done, the total (None: unknown), and the format for tqdm."""

    def _tick_on(self) -> None:
        while not self._ended.wait(TICK_S):
            self.draw()


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        import shutil  # Most commands show no bar, or know the width.

        return shutil.get_terminal_size().columns


class FileBar(Bar):
    """A bar that is called as `progress(done_files, done_bytes, total)`: both counts so far, and all files or None.

    Counts bytes where all of them are known (`expect`), so that it moves within a large file; else files.
    """

    def __init__(self, verb: str, clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None) -> None:
        super().__init__(clock, stream)
        self._verb = verb
        self._files = 0
        self._bytes = 0
        self._total_files: int | None = None
        self._total_bytes: int | None = None

    def __call__(self, done_files: int, done_bytes: int, total: int | None = None) -> None:
        self._files, self._bytes = done_files, done_bytes
        if total is not None:
            self._total_files = total
        self._redraw_if_due()

    def expect(self, total_bytes: int, total_files: int | None = None) -> None:
        """Sets the total of bytes, and of files."""
        self._total_bytes = total_bytes
        if total_files is not None:
            self._total_files = total_files

    def count(self, directory: Path) -> None:
        """Counts a directory's files and bytes in a thread, where a bar is shown."""
        if self._shown:
            threading.Thread(target=self.count_now, args=(directory,), name="counting", daemon=True).start()

    def count_now(self, directory: Path) -> None:
        """Counts a directory and sets the totals."""
        files = size = 0
        stack = [os.fspath(directory)]
        while stack and not self._ended.is_set():
            try:
                with os.scandir(stack.pop()) as found:
                    for entry in found:
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(entry.path)
                            continue
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
            except OSError:
                # The work itself reports what cannot be read.
                continue
        self.expect(size, files)

    def _state(self) -> tuple[int, int | None, dict[str, Any]]:
        shape: dict[str, Any] = {"prefix": self._verb}
        all_files = "" if self._total_files is None else f"/{self._total_files:,}"
        if self._total_bytes:
            total = max(self._total_bytes, self._bytes)
            shape |= {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
            shape |= {"postfix": f"{self._files:,}{all_files} files"}
            return self._bytes, total, shape
        rate = self._bytes / max(self._clock() - self._start_s, 0.001)
        shape |= {"unit": " files", "postfix": f"{human_size(self._bytes)}, {human_size(int(rate))}/s"}
        return self._files, self._total_files, shape


class StageBar(Bar):
    """A bar that is called as `progress(stage, done, total)`, which starts again with each stage."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None) -> None:
        super().__init__(clock, stream)
        self._stage = ""
        self._done = 0
        self._total: int | None = None

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        if stage != self._stage:
            self._start_s = self._clock()
        self._stage, self._done, self._total = stage, done, total
        self._redraw_if_due()

    def _state(self) -> tuple[int, int | None, dict[str, Any]]:
        return self._done, self._total, {"prefix": self._stage}
