"""A mount whose files are written over again and again, through the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.mounts import Mount, mounted

pytestmark = pytest.mark.mount

FILE_BYTES = 256 * 1024
WRITTEN_MAX = 400 * FILE_BYTES


def journal_bytes(mount: Mount) -> int:
    """What the journals take on the disk at this moment."""
    found = 0
    with os.scandir(mount.repository / "work" / "main") as entries:
        for entry in entries:
            if entry.name.startswith("journal-"):
                try:
                    found += entry.stat().st_size
                except FileNotFoundError:
                    # A compaction has just removed it.
                    continue
    return found


def test_a_file_written_over_again_and_again_keeps_its_journal_short(repository: Path, tmp_path: Path) -> None:
    """However little of the machine the compaction gets: the writer goes on until the journal is short."""
    with mounted(repository, tmp_path / "mnt", "short_journals") as mount:
        written, at, data = FILE_BYTES, 0, b""
        with (mount / "file").open("w+b", buffering=0) as file, (mount / "open").open("w+b", buffering=0) as nameless:
            os.unlink(mount / "open")
            nameless.write(b"kept" * 1000)
            file.write(bytes(FILE_BYTES))
            while written < 20 * FILE_BYTES or journal_bytes(mount) > written // 4:
                assert written < WRITTEN_MAX, "nothing was ever compacted"
                data = os.urandom(4096)
                at = written % FILE_BYTES
                assert os.pwrite(file.fileno(), data, at) == len(data)
                written += len(data)
            assert os.pread(file.fileno(), len(data), at) == data
            assert os.pread(nameless.fileno(), 4001, 0) == b"kept" * 1000
        expected = (mount / "file").read_bytes()
        assert "compacted the journals" in mount.log.read_text()
        assert mount.commit().number == 1
    with mounted(repository, tmp_path / "mnt") as mount:
        assert (mount / "file").read_bytes() == (mount / "@v1/file").read_bytes() == expected
