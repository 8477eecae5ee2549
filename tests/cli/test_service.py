"""What systemd, mount(8) and drivers use: readiness, `mount.vfs`, `--fuse-fd`, the log as JSON."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S
from support.waiting import wait_until
from vfs.cli.fstab import main as mount_vfs
from vfs.cli.fstab import parse
from vfs.cli.main import main
from vfs.fuse.session.mountpoint import mounted_at

PROGRAM = [sys.executable, "-m", "vfs"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Returns a repository and an empty directory."""
    assert main(["init", str(tmp_path / "repo")]) == 0
    (tmp_path / "mnt").mkdir()
    return tmp_path / "repo", tmp_path / "mnt"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("r m", ["mount", "--", "r", "m"]),
        ("r m -o rw,nosuid,nodev,noauto,nofail,_netdev,x-systemd.automount", ["mount", "--", "r", "m"]),
        ("r m -o ro,allow_other -v", ["mount", "--read-only", "--allow-other", "--", "r", "m"]),
        ("-t fuse.vfs r m -n -o branch=a/b,cache=64", ["mount", "--branch", "a/b", "--cache", "64", "--", "r", "m"]),
        ("-s r m -o unknown", ["mount", "--", "r", "m"]),
        ("-r r m", ["mount", "--read-only", "--", "r", "m"]),
    ],
)
def test_lines_of_fstab_are_words_of_mount(line: str, words: list[str]) -> None:
    assert parse(line.split()) == (words, False)


@pytest.mark.parametrize("line", ["", "r", "r m x", "r m -o unknown", "r m -o", "r m --bind", "r m -o branch="])
def test_what_has_no_meaning_is_misuse(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mount.vfs", *line.split()])
    assert mount_vfs() == 1
    assert "usage: mount.vfs" in capsys.readouterr().err


def test_a_pretended_mount_mounts_nothing(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["mount.vfs", "-f", *map(str, places)])
    assert mount_vfs() == 0
    assert mounted_at(places[1]) is None


@pytest.mark.mount
def test_mount_vfs_mounts(places: tuple[Path, Path]) -> None:
    program = [sys.executable, "-m", "vfs.cli.fstab", *map(str, places), "-o", "rw,branch=main"]
    assert subprocess.run(program, stdout=subprocess.DEVNULL, check=False).returncode == 0
    (places[1] / "file").write_text("x")
    assert main(["umount", str(places[1])]) == 0
    nowhere = [sys.executable, "-m", "vfs.cli.fstab", str(places[1]), str(places[1])]
    assert subprocess.run(nowhere, stderr=subprocess.DEVNULL, check=False).returncode == 32


@pytest.mark.mount
@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_when_the_mount_answers(places: tuple[Path, Path], tmp_path: Path, is_abstract: bool) -> None:
    repository, path = places
    address = f"@vfs-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0", 1) if is_abstract else address)
        systemd.settimeout(TIMEOUT_S)
        command = [*PROGRAM, "mount", "--foreground", "--log-json", str(repository), str(path)]
        environment = {**os.environ, "NOTIFY_SOCKET": address}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert systemd.recv(4096).startswith(b"READY=1\n")
                assert mounted_at(path) is not None
            finally:
                process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["message"].partition(" ")[0] for line in lines] == ["mounted", "SIGTERM:", "unmounted"]
    assert {line["level"] for line in lines} == {"info"}
    # That of the daemon, not of its supervisor.
    assert len({line["process"] for line in lines} - {process.pid}) == 1
    assert all("T" in line["time"] for line in lines)


@pytest.mark.mount
def test_a_mount_that_was_made_elsewhere_is_served_by_its_descriptor(places: tuple[Path, Path]) -> None:
    repository, path = places
    connection = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={connection},rootmode=40000,user_id=0,group_id=0,default_permissions".encode()
    library = ctypes.CDLL(None, use_errno=True)
    assert library.mount(os.fsencode(repository), os.fsencode(path), b"fuse.vfs", ctypes.c_ulong(0), data) == 0
    try:
        command = [*PROGRAM, "mount", "--fuse-fd", str(connection), str(repository), str(path)]
        done = subprocess.run(command, pass_fds=(connection,), stdout=subprocess.DEVNULL, check=False)
        os.close(connection)
        assert done.returncode == 0
        (path / "file").write_text("x")
        assert main(["--repo", str(path), "commit", "-m", "one"]) == 0
        assert (path / "@v1/file").read_text() == "x"
    finally:
        assert library.umount2(os.fsencode(path), 0) == 0
    wait_until(lambda: main(["--repo", str(repository), "status"]) == 0)


def test_another_descriptor_is_misuse(places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mount", "--fuse-fd", "0", *map(str, places)]) == 2
    assert "not an open /dev/fuse" in capsys.readouterr().err
