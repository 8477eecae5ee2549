"""A layer without changes replaces its journals by an empty one if the disk has no space."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from support.engine import Crash, StopAfter
from support.working import working_layer
from vfs.overlay.replacing import start_over


@pytest.mark.parametrize("steps", range(8))
def test_starting_over_stopped_at_every_step(tmp_path: Path, steps: int) -> None:
    """A layer without changes is one without changes, wherever it is cut off."""
    with working_layer(tmp_path) as bench:
        bench.mkdir(b"d")
        bench.put(b"d/a", b"a" * 5000)
        bench.link(b"d/a", b"l")
        bench.put(b"r", b"renamed")
        bench.rename(b"r", b"d/r")
        bench.commit()
        bench.on_step = stop = StopAfter(1000)
        bench.reopen()
        picture = bench.picture()
        before = {path: bench.ino(path) for path in picture}
        bench.put(b"gone", b"1" * 100_000)
        bench.unlink(b"gone")
        stop.left = steps
        with contextlib.suppress(Crash):
            start_over(bench.state)
            assert bench.picture() == picture
            assert {path: bench.ino(path) for path in picture} == before
        bench.on_step = None
        bench.crash()
        assert bench.overlay.is_clean()
        # Only the time of the root may be that of what has gone.
        assert bench.picture() == picture | {b"": bench.picture()[b""]}
        assert {path: bench.ino(path) for path in picture} == before
        bench.put(b"later")
        picture = bench.picture()
        bench.crash()
        assert bench.picture() == picture
        assert bench.picture_of(bench.commit()) == picture
