"""Kills of a run's parts leave a sealed record each; scripts/run-kills does the same a hundred times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.run_killing import PARTS, rounds
from vfs.fuse.session.mountpoint import mounted_at, unmount

pytestmark = [pytest.mark.mount, pytest.mark.slow]


def test_kills_leave_sealed_records(tmp_path: Path) -> None:
    try:
        left = rounds(tmp_path, len(PARTS), seed=3, has_read=True)
    finally:
        if mounted_at(tmp_path / "mnt") is not None:
            unmount(tmp_path / "mnt")
    assert [one.part for one in left] == list(PARTS)
    assert "running" not in {one.status for one in left}
    by_part = {one.part: one for one in left}
    assert by_part["program"].status == "failed"
    assert by_part["command"].status == "interrupted"
    assert by_part["program"].opened > 0
    assert any("daemon was killed" in note for note in by_part["daemon"].notes)
    assert os.listdir(tmp_path / "repo" / "recordings") == []
