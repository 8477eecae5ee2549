"""Progress of long work, on standard error, where that is a terminal. The only importer of `tqdm`."""

from __future__ import annotations

import importlib
import sys
import time
from types import TracebackType
from typing import Any, Self

from vfs.cli.output import human_size, note


class Progress:
    """A bar that is called as `progress(done_files, done_bytes, total)`: both counts so far, and all files or None.

    Shows files, bytes, rate and, where the total is known, time left; does nothing where standard error is no
    terminal. Use it as a context manager: the line is removed at the end, so that what is printed next stands alone.
    """

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._bar: Any = None
        self._shown = sys.stderr.isatty()
        self._start_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done_files: int, done_bytes: int, total: int | None = None) -> None:
        if not self._shown:
            return
        if self._bar is None:
            # Imported when it is needed: a command that never shows a bar does not pay for it.
            tqdm = importlib.import_module("tqdm").tqdm
            self._bar = tqdm(desc=self._verb, unit=" files", leave=False, file=sys.stderr, dynamic_ncols=True)
        if total is not None:
            self._bar.total = total
        rate = done_bytes / max(time.monotonic() - self._start_s, 0.001)
        self._bar.set_postfix_str(f"{human_size(done_bytes)}, {human_size(int(rate))}/s", refresh=False)
        self._bar.update(done_files - self._bar.n)

    def waiting(self, words: str) -> None:
        """Says what is waited for; on a terminal only, as a bar is."""
        if self._shown:
            note(f"vfs: {words}")


class StageProgress:
    """A bar that is called as `progress(stage, done, total)`, with a new line for each stage. A context manager."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def waiting(self, words: str) -> None:
        """Says what is waited for; on a terminal only, as a bar is."""
        if self._shown:
            note(f"vfs: {words}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __call__(self, stage: str, done: int, total: int | None = None) -> None:
        if not self._shown:
            return
        if stage != self._stage:
            self._close()
            self._stage = stage
        if self._bar is None:
            tqdm = importlib.import_module("tqdm").tqdm
            self._bar = tqdm(desc=stage, total=total, leave=False, file=sys.stderr, dynamic_ncols=True)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
