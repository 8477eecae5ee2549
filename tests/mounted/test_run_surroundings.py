"""Runs where users have them: without root, without namespaces, under a shell's job control, in containers."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command_server import run_vfs
from support.mounts import Mount, mounted
from support.ordinary_user import USER, run_as_ordinary_user
from support.repositories import Repositories
from support.waiting import wait_until
from vfs.fuse.run_attribute import RUN_XATTR

pytestmark = pytest.mark.mount
VFS = str(Path(sys.executable).with_name("vfs"))
AS_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
REFUSING = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces; echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"',
    "sh",
)


@pytest.fixture
def two(mount: Mount) -> Mount:
    """A mount with two versions of `file`."""
    for text in ("first", "second"):
        (mount / "file").write_text(text)
        mount.commit()
    return mount


def vfs_run(mount: Mount, cwd: Path, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs `vfs run`."""
    if not before:
        return run_vfs("--repo", mount.path, "run", *words, directory=cwd)
    command = [*before, VFS, "--repo", str(mount.path), "run", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)


def record(mount: Mount, name: str) -> dict[str, Any]:
    """Returns the document of a run."""
    done = run_vfs("--repo", mount.path, "runs", "show", name, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_user_without_capabilities_pins_a_version_of_a_mount(two: Mount, tmp_path: Path) -> None:
    script = f"cat {two.path}/file; echo; id -u; grep CapEff /proc/self/status"
    done = vfs_run(two, tmp_path, "--at", "v1", "--", "sh", "-c", script, before=AS_USER)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["first", "1000", "CapEff:", "0" * 16]
    [source] = record(two, "r1")["sources"]
    assert (source["known"], source["number"], source["opened"]) == ("pinned", 1, 1)


def test_an_ordinary_user_pins_a_version_of_their_own_mount(tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
os.chdir(sys.argv[1])
def vfs(*words):
    done = subprocess.run([VFS, *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout
vfs("init", "repo")
os.mkdir("mnt")
vfs("mount", "repo", "mnt")
for text in ("first", "second"):
    with open("mnt/file", "w") as file:
        file.write(text)
    vfs("--repo", "mnt", "commit", "-m", text)
print(vfs("--repo", "mnt", "run", "--at", "v1", "--", "sh", "-c", "cat mnt/file; echo; id -u"), end="")
print(vfs("--repo", "mnt", "runs", "show", "r1", "--json"), end="")
vfs("umount", "mnt")
"""
    done = run_as_ordinary_user(tmp_path, program.replace("VFS", repr(VFS)))
    assert done.returncode == 0, done.stderr
    text, user, document = done.stdout.splitlines()
    assert (text, user) == ("first", str(USER))
    [source] = json.loads(document)["sources"]
    assert (source["known"], source["number"], source["opened"]) == ("pinned", 1, 1)


def test_another_user_pins_a_version_of_a_mount_that_all_may_see(two: Mount) -> None:
    code = """
import ctypes, os, sys
from pathlib import Path
from typing import Any
from vfs.control.pinned_view import start
mnt, version = map(Path, sys.argv[1:])
os.chdir("/")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
# A process that was root keeps its files in /proc root's, until exec or this.
ctypes.CDLL(None).prctl(4, 1)
started = start(["sh", "-c", "cat {data}/file; echo; id -u"], mnt, version, os.environ)
assert not started.reason, started.reason
sys.exit(started.process.wait())
"""
    two.end()
    place = Path("/var/tmp") / f"shared-{os.getpid()}"
    try:
        with mounted(two.repository, place, "allow_other") as shared:
            words = [sys.executable, "-c", code, str(place), str((shared / "@v1").resolve())]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
            assert done.returncode == 0, done.stderr
            assert done.stdout.split() == ["first", "65534"]
    finally:
        place.with_name(f"{place.name}.log").unlink(missing_ok=True)
        if place.exists():
            place.rmdir()


def test_where_namespaces_are_refused_the_command_says_what_works(two: Mount, tmp_path: Path) -> None:
    done = vfs_run(two, tmp_path, "--at", "v1", "--", "cat", f"{two.path}/file", before=REFUSING)
    assert done.returncode != 0
    assert "cannot have a view of its own here" in done.stderr
    assert "{data}" in done.stderr
    done = vfs_run(two, tmp_path, "--at", "v1", "--", "cat", "{data}/file", before=REFUSING)
    assert (done.returncode, done.stdout) == (0, "first"), done.stderr
    [source] = record(two, "r1")["sources"]
    assert (source["known"], source["number"], source["opened"]) == ("pinned", 1, 1)


def test_a_container_in_the_same_process_id_namespace_is_recorded(two: Mount, tmp_path: Path) -> None:
    before = ("unshare", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--propagation", "private")
    done = vfs_run(two, tmp_path, "--", *before, "setsid", "--wait", "cat", f"{two.path}/file")
    assert (done.returncode, done.stdout) == (0, "second"), done.stderr
    [source] = record(two, "r1")["sources"]
    assert source["opened"] == 1


def test_a_container_that_has_the_mount_at_another_path_pins_a_version(two: Mount, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moving = f'mount --bind "{two.path}" "{elsewhere}" && umount -l "{two.path}" && cd "{elsewhere}" && exec "$@"'
    before = ("unshare", "--mount", "--propagation", "private", "sh", "-c", moving, "sh")
    command = [*before, VFS, "run", "--at", "v1", "--", "cat", f"{elsewhere}/file"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "first"), done.stderr
    [source] = record(two, "r1")["sources"]
    assert (source["known"], source["number"], source["opened"]) == ("pinned", 1, 1)


def test_a_shell_stops_and_continues_a_run(two: Mount, tmp_path: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "PROMPT> ", "TERM": "dumb"})
    try:
        script = f"cat {two.path}/file; echo beg''un; read -r line; echo got \\$line"
        _type(terminal, "", b"PROMPT> ")
        _type(terminal, f'{VFS} --repo {two.path} run -- sh -c "{script}"\n', b"begun")
        _type(terminal, "\x1a", b"Stopped", b"PROMPT> ")
        _type(terminal, "jobs\n", b"Stopped", b"PROMPT> ")
        _type(terminal, "fg\n", b"read -r line")
        _type(terminal, "words\n", b"got words", b"r1 ok", b"PROMPT> ")
        _type(terminal, f"{VFS} --repo {two.path} run -- sleep 1000\n", b"sleep 1000")
        _running(two, "r2")
        _type(terminal, "\x03", b"PROMPT> ")
        _type(terminal, "echo status $?\n", b"status 130")
        _type(terminal, f"{VFS} --repo {two.path} run -- sleep 1001 < /dev/null\n", b"sleep 1001")
        _running(two, "r3")
        _type(terminal, "\x1a", b"Stopped", b"PROMPT> ")
        _type(terminal, "fg\n", b"sleep 1001")
        wait_until(lambda: os.tcgetpgrp(terminal) != child)
        _type(terminal, "\x03", b"PROMPT> ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(child, 0)
    assert record(two, "r1")["status"] == "ok"
    assert record(two, "r2")["record"]["exit_status"] == 128 + signal.SIGINT


def _running(mount: Mount, name: str) -> None:
    """Returns when a run's program has been started."""
    while True:
        words = [VFS, "--repo", str(mount.path), "status"]
        if f"{name} is running: sleep" in subprocess.run(words, capture_output=True, text=True, check=True).stdout:
            return


def _type(terminal: int, keys: str, *awaited: bytes) -> None:
    """Types, and reads what the terminal shows until it has shown some words, one after the other."""
    os.write(terminal, keys.encode())
    shown = b""
    for words in awaited:
        while words not in shown:
            shown += os.read(terminal, 4096)
        shown = shown.partition(words)[2]


@pytest.fixture
def other(repositories: Repositories, tmp_path: Path) -> Iterator[Mount]:
    """Another repository's mount."""
    with mounted(repositories.make("other").path, tmp_path / "other-mnt") as made:
        yield made


def test_a_view_keeps_no_mount_that_ends_outside(two: Mount, other: Mount, tmp_path: Path) -> None:
    fifo, told = tmp_path / "fifo", tmp_path / "told"
    os.mkfifo(fifo)
    os.mkfifo(told)
    script = f"echo > {told}; read -r line < {fifo}; cat {two.path}/file"
    command = [VFS, "--repo", str(two.path), "run", "--at", "v1", "--", "sh", "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        told.read_text()
        done = subprocess.run([VFS, "umount", other.path], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        fifo.write_text("go\n")
        assert process.communicate(timeout=300)[0] == b"first"


def test_a_run_that_uses_a_mount_in_its_view_is_named(two: Mount, other: Mount, tmp_path: Path) -> None:
    (other / "held").write_text("x")
    fifo, told = tmp_path / "fifo", tmp_path / "told"
    os.mkfifo(fifo)
    os.mkfifo(told)
    script = f"exec 5< {other.path}/held; echo > {told}; read -r line < {fifo}"
    command = [VFS, "--repo", str(two.path), "run", "--at", "v1", "--", "sh", "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        told.read_text()
        done = subprocess.run([VFS, "umount", other.path], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 4
        assert f"the run r1 of {two.repository}" in done.stderr
        fifo.write_text("go\n")
        process.wait(60)


OPENS = """
import os, sys
top, times = sys.argv[1], int(sys.argv[2])
names = sorted(os.listdir(top))
for _ in range(times):
    os.close(os.open(f"{top}/{names[0]}", os.O_RDONLY))
for name in names:
    os.close(os.open(f"{top}/{name}", os.O_RDONLY))
"""


def test_no_open_is_lost_that_waits_in_the_native_ring_until_the_run_ends(two: Mount, tmp_path: Path) -> None:
    (two / "d").mkdir()
    for number in range(50):
        (two / f"d/f{number:02}").write_text(f"{number}\n")
    two.commit()
    two.end()
    with mounted(two.repository, tmp_path / "mnt", "kept_opens") as mount:
        words = ("--", sys.executable, "-I", "-c", OPENS, f"{mount.path}/@v3/d", "100")
        done = vfs_run(mount, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        [source] = [each for each in record(mount, "r1")["sources"] if each["known"] == "seen"]
        assert (source["number"], source["opened"]) == (3, 50)


def test_files_name_the_run_that_wrote_them(two: Mount, tmp_path: Path) -> None:
    assert vfs_run(two, tmp_path, "--", "cp", f"{two.path}/file", f"{two.path}/copy").returncode == 0
    assert os.getxattr(two / "copy", RUN_XATTR) == b"r1"
    two.commit()
    for path in (two / "copy", two / "@v3/copy"):
        assert os.getxattr(path, RUN_XATTR) == b"r1"
        assert RUN_XATTR.decode() not in os.listxattr(path)
    (two / "copy").write_text("by hand")
    for path in (two / "copy", two / "file", two / "@v3/file", two.path, two / "@v3"):
        with pytest.raises(OSError, match="No data"):
            os.getxattr(path, RUN_XATTR)
    assert vfs_run(two, tmp_path, "--", "sh", "-c", f"echo > {two.path}/copy").returncode == 0
    assert os.getxattr(two / "copy", RUN_XATTR) == b"r2"
    assert os.getxattr(two / "@v3/copy", RUN_XATTR) == b"r1"


HAMMERS = """
import os, sys, threading
top, rounds = sys.argv[1], int(sys.argv[2])
def read(part):
    names = sorted(os.listdir(top))[part::2]
    for _ in range(rounds):
        for name in names:
            os.close(os.open(f"{top}/{name}", os.O_RDONLY))
threads = [threading.Thread(target=read, args=(part,)) for part in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_no_open_of_known_threads_is_lost_while_inodes_are_forgotten(mount: Mount, tmp_path: Path) -> None:
    (mount / "d").mkdir()
    for number in range(500):
        (mount / f"d/f{number:04}").write_text(f"{number}\n")
    mount.commit()
    (tmp_path / "hammers.py").write_text(HAMMERS)
    ended = threading.Event()

    def forget() -> None:
        while not ended.wait(0.05):
            mount.drop_kernel_caches()

    other = threading.Thread(target=forget)
    other.start()
    try:
        top = f"{mount.path}/@v1/d"
        hammers = f"seq 3 | xargs -P3 -I_ {sys.executable} -I {tmp_path}/hammers.py {top} 40"
        script = f"{hammers}; ls {top} | xargs -P2 -n 50 sh -c 'cd {top}; cat \"$@\" > /dev/null' _"
        done = vfs_run(mount, tmp_path, "--", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
    finally:
        ended.set()
        other.join()
    sources = record(mount, "r1")["sources"]
    assert [(each["opened"], each["number"]) for each in sources if each["opened"]] == [(500, 1)]
    shown = mount / "@/runs/r1/inputs/d"
    assert sorted(os.listdir(shown)) == [f"f{number:04}" for number in range(500)]
