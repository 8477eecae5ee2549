"""Runs on terminals that are closed while they go on."""

from __future__ import annotations

import os
import pty
import signal
import sys
from pathlib import Path

import pytest

from support.mounts import Mount
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_run, load_record

pytestmark = pytest.mark.mount
VFS = str(Path(sys.executable).with_name("vfs"))


def test_a_closed_terminal_ends_a_program_whose_run_leads_the_session(mount: Mount) -> None:
    (mount / "f").write_text("data")
    mount.commit()
    command = [VFS, "--repo", str(mount.path), "run", "--", "sh", "-c", f"cat {mount / 'f'}; echo ready; sleep 1000"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(VFS, command)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGHUP
    with Repository.open(mount.repository) as repo:
        record = load_record(repo, find_run(repo, "r1"))
    assert (record.status, record.exit_status) == ("failed", 128 + signal.SIGHUP)
    assert record.sources[0].opened == 1
