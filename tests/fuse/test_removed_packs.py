"""A mount keeps no pack open for long that was removed."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from support.descriptors import open_paths
from vfs.backend.local import LocalBackend
from vfs.fuse.removed_packs import CLOSE_S, close_removed


def test_removed_files_are_closed_after_some_seconds_and_others_stay_open(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    for name in ("kept", "removed"):
        (tmp_path / name).write_bytes(b"x")
        assert backend.read_range(name, 0, 1) == b"x"
    # As another process does it.
    (tmp_path / "removed").unlink()
    dropped = []

    async def wait(seconds: float) -> None:
        with trio.move_on_after(seconds):
            await close_removed(backend, lambda: dropped.append(trio.current_time()))

    def opened() -> list[str]:
        return sorted(path.rpartition("/")[2] for path in open_paths() if path.startswith(str(tmp_path)))

    assert opened() == ["kept", "removed (deleted)"]
    trio.run(wait, 3.5 * CLOSE_S, clock=trio.testing.MockClock(autojump_threshold=0))
    assert opened() == ["kept"]
    assert dropped[0] == CLOSE_S
    backend.close()
