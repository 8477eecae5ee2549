"""Plain directory trees with one of everything a version keeps, and the description that two equal trees share."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from pathlib import Path
from typing import Any

Description = dict[str, dict[str, Any]]

MIB = 1 << 20
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def describe(root: Path, *, holes: bool = True) -> Description:
    """Returns what a version keeps of each path below a directory; plain values, the same after a trip through JSON.

    Hard links name the group's smallest path. With `holes`, `data` lists the [start, end] runs of a file that are no
    holes: leave it out below a mount, which the kernel does not ask for holes. Attributes that a mount computes
    (`user.vfs.…`) are not described.
    """
    top = os.fsencode(root)
    groups: dict[tuple[int, int], str] = {}
    found: Description = {}
    paths = [top]
    for folder, folders, names in os.walk(top):
        paths += [os.path.join(folder, name) for name in (*folders, *names)]
    for path in sorted(paths):
        name = os.fsdecode(os.path.relpath(path, top))
        found[name] = _describe_path(path, name, groups)
        if not holes:
            found[name].pop("data", None)
    return found


def _describe_path(path: bytes, name: str, groups: dict[tuple[int, int], str]) -> dict[str, Any]:
    status = os.lstat(path)
    entry: dict[str, Any] = {
        "kind": _KINDS[stat.S_IFMT(status.st_mode)],
        "mode": stat.S_IMODE(status.st_mode),
        "owner": [status.st_uid, status.st_gid],
        "mtime_ns": status.st_mtime_ns,
        "xattrs": {
            os.fsdecode(key): os.getxattr(path, key, follow_symlinks=False).hex()
            for key in sorted(os.listxattr(path, follow_symlinks=False))
            if not key.startswith("user.vfs.")
        },
    }
    if entry["kind"] == "file":
        entry |= {"size": status.st_size, "sha256": _digest(path), "data": _data_runs(path, status.st_size)}
    elif entry["kind"] == "symlink":
        entry["target"] = os.fsdecode(os.readlink(path))
    elif entry["kind"].endswith("device"):
        entry["device"] = [os.major(status.st_rdev), os.minor(status.st_rdev)]
    if entry["kind"] != "directory" and status.st_nlink > 1:
        entry["linked to"] = groups.setdefault((status.st_dev, status.st_ino), name)
    return entry


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _data_runs(path: bytes, size: int) -> list[list[int]]:
    runs: list[list[int]] = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                start = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole from here on.
                break
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
            runs.append([start, at])
    finally:
        os.close(descriptor)
    return runs


def make_everything(root: Path) -> None:
    """Fills an empty directory with every kind of entry and attribute; needs root for owners and device nodes."""
    source = random.Random(1)
    top = os.fsencode(root)
    (root / "empty file").touch()
    (root / "tiny.json").write_bytes(b'{"label": "cat"}\n')
    (root / "one chunk").write_bytes(source.randbytes(20_000))
    (root / "many chunks").write_bytes(source.randbytes(MIB // 2))
    # Few chunks, stored once, and a list of them that is itself cut into nodes.
    (root / "repeated").write_bytes(source.randbytes(150_000) * 200)
    (root / "text.csv").write_bytes(b"".join(b"%d,%d,cat\n" % (row, row * row) for row in range(20_000)))
    with (root / "sparse").open("wb") as file:
        file.write(b"head" * 1024)
        file.seek(8 * MIB)
        file.write(b"tail" * 1024)
        file.truncate(16 * MIB)
    for name in (b"caf\xc3\xa9", b"not utf-8 \xff\xfe", b"new\nline", b"-dash", b"n" * 255):
        Path(os.fsdecode(top + b"/" + name)).write_bytes(name)
    (root / "many").mkdir()
    for index in range(400):
        (root / "many" / f"file{index:04d}.txt").write_bytes(b"number %d\n" % index)
    (root / "empty directory").mkdir()
    (root / "deep/er/and/deeper").mkdir(parents=True)
    (root / "deep/@types").write_bytes(b"an ordinary name below the root\n")
    os.symlink("../many/file0001.txt", root / "deep/link")
    os.symlink(b"dangling \xff", top + b"/dangling")
    (root / "linked").write_bytes(b"three names\n" * 1000)
    os.link(root / "linked", root / "deep/er/linked too")
    os.link(root / "linked", root / "many/linked as well")
    os.mkfifo(root / "fifo")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 200))
    os.setxattr(root / "tiny.json", "user.origin", b"\x00\x01 bytes \xff")
    os.setxattr(root / "tiny.json", "user.empty", b"")
    os.setxattr(root / "empty directory", "user.on.directory", b"yes")
    os.chown(root / "one chunk", 12345, 54321)
    os.chown(root / "dangling", 1000, 1000, follow_symlinks=False)
    os.chmod(root / "one chunk", 0o4751)
    os.chmod(root / "empty directory", 0o2770)
    os.chmod(root / "tiny.json", 0o400)
    os.utime(root / "one chunk", ns=(0, 1_234_567_890_123_456_789))
    os.utime(root / "text.csv", ns=(0, -86_400_000_000_001))
    os.utime(root / "dangling", ns=(0, 987_654_321_000_000_001), follow_symlinks=False)
    os.utime(root / "deep/er", ns=(0, 1_111_111_111_111_111_111))


def change_some(root: Path) -> None:
    """Changes a tree that `make_everything` made: content, names, attributes, links, a new kind under an old name."""
    with (root / "many chunks").open("r+b") as file:
        file.seek(MIB // 4)
        file.write(b"overwritten" * 100)
    with (root / "text.csv").open("ab") as file:
        file.write(b"appended,row,dog\n" * 50)
    (root / "many/file0300.txt").unlink()
    (root / "many/file0301.txt").rename(root / "renamed.txt")
    (root / "many/file0302.txt").write_bytes(b"changed\n")
    (root / "many/new.txt").write_bytes(b"new\n")
    (root / "deep/er/linked too").unlink()
    (root / "fifo").unlink()
    (root / "fifo").mkdir()
    (root / "fifo/was a fifo").touch()
    os.chmod(root / "tiny.json", 0o644)
    os.removexattr(root / "tiny.json", "user.empty")
    os.truncate(root / "sparse", 12 * MIB)
