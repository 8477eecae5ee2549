"""Makes a frozen repository of the present format: what every later version of the program must go on reading.

Run once for each format version, as root, by hand:

    cd tests/format/data
    ../../../.venv/bin/python ../make_frozen.py format-1.tar.gz
    ../../../.venv/bin/python ../make_frozen.py format-1-summary.tar.gz format-1.tar.gz

The last line writes the working layer of an archive alone, compacted: it takes the place of the one that is there.

The archive holds `repository` and `expected.json`, what each version and the working layer hold. Three versions, a tag
and uncommitted changes are made through the command line and a mount, as a user makes them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.plain_trees import Description, change_some, describe, make_everything
from vfs.repo.repository import Repository

# What holds caches, sockets and locks of this machine is no part of what a format promises.
LEFT_OUT = {"cache", "index", "run", "tmp", "gc.lock", "index.lock", "objects.lock", "write.lock"}
AUTHOR = "A. Author <author@example>"


def vfs(*words: str | Path) -> None:
    """Runs the program, which prints what it did."""
    command = [str(Path(sys.executable).with_name("vfs")), *map(str, words)]
    subprocess.run(command, check=True, env=os.environ | {"VFS_AUTHOR": AUTHOR})


def fill(repository: Path, source: Path, mountpoint: Path) -> dict[str, Description]:
    """Makes the versions and the working layer; returns the description of each version."""
    versions = {}
    vfs("init", repository)
    make_everything(source)
    versions["v1"] = describe(source)
    vfs("--repo", repository, "import", source, "-m", "everything")
    change_some(source)
    versions["v2"] = describe(source)
    vfs("--repo", repository, "import", source, "-m", "some of it changed")
    vfs("--repo", repository, "tag", "second", "v2")
    vfs("mount", repository, mountpoint)
    try:
        (mountpoint / "from the mount.txt").write_bytes(b"written through the mount\n")
        vfs("--repo", repository, "commit", "-m", "through the mount")
        (mountpoint / "uncommitted.txt").write_bytes(b"not in any version\n")
        with (mountpoint / "many chunks").open("r+b") as file:
            file.seek(4096)
            file.write(b"uncommitted" * 10)
        (mountpoint / "many/file0000.txt").rename(mountpoint / "moved.txt")
        os.link(mountpoint / "tiny.json", mountpoint / "tiny link.json")
        versions["working layer"] = describe(mountpoint, holes=False)
    finally:
        vfs("umount", mountpoint)
    exported = source.with_name("exported")
    vfs("--repo", repository, "export", "v3", exported)
    versions["v3"] = describe(exported)
    return versions


def main(target: Path) -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as scratch:
        repository, source, mountpoint = (Path(scratch, name) for name in ("repository", "source", "mount"))
        source.mkdir()
        mountpoint.mkdir()
        expected = Path(scratch, "expected.json")
        expected.write_text(json.dumps(fill(repository, source, mountpoint), sort_keys=True) + "\n", encoding="utf-8")
        with tarfile.open(target, "w:gz") as archive:
            archive.add(repository, "repository", filter=_portable)
            archive.add(expected, expected.name, filter=_portable)


def summarise(target: Path, archive: Path) -> None:
    """Writes the working layer of an archive, compacted."""
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="fully_trusted")
        repository = Path(scratch, "repository")
        with Repository.open(repository) as repo, repo.open_overlay() as overlay:
            assert overlay.compactor.run()
        with tarfile.open(target, "w:gz") as packed:
            packed.add(repository / "work", "repository/work", filter=_portable)


def _portable(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = member.name.split("/")
    if len(parts) > 1 and parts[1] in LEFT_OUT:
        return None
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    if sys.argv[2:]:
        summarise(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]))
