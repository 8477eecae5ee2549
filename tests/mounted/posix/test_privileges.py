"""What writing takes away from a program: set-user-id bits and capabilities. Each is done locally and in the mount."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.calls import ALICE, BOB, as_user

pytestmark = pytest.mark.mount

CAPABILITIES = "security.capability"
MAY_CHOWN = struct.pack("<5I", 0x02000001, 1, 0, 0, 0)


def test_a_setuid_program_that_was_written_to_runs_without_its_owners_rights(local: Path, inside: Path) -> None:
    told = []
    for place in (local, inside):
        path = place / "id"
        path.write_bytes(Path("/usr/bin/id").read_bytes())
        os.chown(path, BOB.uid, BOB.gid)
        os.chmod(path, 0o4757)

        def written_and_run() -> str:
            # Nothing asks for the attributes between the two.
            before = subprocess.run(["./id", "-u"], capture_output=True, check=True).stdout
            descriptor = os.open("id", os.O_WRONLY | os.O_APPEND)
            os.write(descriptor, b"\0")
            os.close(descriptor)
            return repr((before, subprocess.run(["./id", "-u"], capture_output=True, check=True).stdout))

        told.append(as_user(ALICE, place, written_and_run))
    assert told == [f"(b'{BOB.uid}\\n', b'{ALICE.uid}\\n')"] * 2


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": _append,
    "cut": lambda path: os.truncate(path, 1),
    "cut at opening": lambda path: path.write_bytes(b""),
    "chown": lambda path: os.chown(path, BOB.uid, BOB.gid),
    "chmod": lambda path: path.chmod(0o700),
    "read": lambda path: path.read_bytes(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_capabilities_go_with_the_content_they_were_given_to(change: str, local: Path, inside: Path) -> None:
    told = []
    for place in (local, inside):
        path = place / "program"
        path.write_bytes(b"data")
        # The kernel knows by now that it has none.
        _append(path)
        os.setxattr(path, CAPABILITIES, MAY_CHOWN)
        CHANGES[change](path)
        told.append(os.listxattr(path))
    assert told[0] == told[1]
