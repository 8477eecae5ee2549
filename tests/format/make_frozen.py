"""Makes a frozen repository of the present format: what every later version of the program must go on reading.

Run once for each format version, as root, by hand:

    cd tests/format/data
    ../../../.venv/bin/python ../make_frozen.py format-1.tar.gz
    ../../../.venv/bin/python ../make_frozen.py format-1-summary.tar.gz format-1.tar.gz
    ../../../.venv/bin/python ../make_frozen.py format-1-partial.tar.gz
    ../../../.venv/bin/python ../make_frozen.py format-1-merge.tar.gz
    ../../../.venv/bin/python ../make_frozen.py format-1-node-blocks.tar.gz
    unshare --uts sh -c 'hostname machine; exec ../../../.venv/bin/python ../make_frozen.py format-1-runs.tar.gz'

In `partial` the newest version has a part of what was changed; in `merge` a merge has two conflicts, one of them
decided; `node-blocks` was made with `vfs init --compact`; `runs` has records of runs, one of
them of a working layer with changes. The second line writes the working layer of an archive alone, compacted: it takes
the place of the one that is there.

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
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.plain_trees import Description, change_some, describe, make_everything
from vfs.repo.repository import Repository
from vfs.repo.runs.records import RECORD, list_runs, run_file

# What holds caches, sockets and locks of this machine is no part of what a format promises.
LEFT_OUT = {"cache", "index", "run", "runs", "tmp", "gc.lock", "index.lock", "objects.lock", "write.lock"}
AUTHOR = "A. Author <author@example>"


def vfs(*words: str | Path, status: int = 0) -> None:
    """Runs the program, which prints what it did."""
    command = [str(Path(sys.executable).with_name("vfs")), *map(str, words)]
    done = subprocess.run(command, check=False, env=os.environ | {"VFS_AUTHOR": AUTHOR})
    assert done.returncode == status, command


def fill(repository: Path, source: Path, mountpoint: Path) -> dict[str, Description]:
    """Makes the versions and the working layer; returns the description of each version."""
    versions = _two_versions(repository, source, make_everything, change_some)
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
    return versions | _exported(repository, source)


def fill_partial(repository: Path, source: Path, mountpoint: Path) -> dict[str, Description]:
    """Makes versions of which the last has a part of the changes; the rest, and an ignored file, stay uncommitted."""
    versions = _two_versions(repository, source, make_little, change_little)
    vfs("mount", repository, mountpoint)
    try:
        for name in ("kept.txt", "left.txt", "ignored.tmp"):
            (mountpoint / name).write_bytes(name.encode() * 500)
        (mountpoint / ".vfsignore").write_text("*.tmp\n")
        (mountpoint / "many/file0000.txt").rename(mountpoint / "moved.txt")
        vfs("--repo", repository, "commit", "-m", "a part", "kept.txt", ".vfsignore")
        (mountpoint / "later.txt").write_bytes(b"written after it\n")
        versions["working layer"] = describe(mountpoint, holes=False)
    finally:
        vfs("umount", mountpoint)
    return versions | _exported(repository, source)


def fill_merge(repository: Path, source: Path, mountpoint: Path) -> dict[str, Description]:
    """Makes versions, and a merge that is under way: `decided` is, `open` has marks."""
    versions = _two_versions(repository, source, make_little, change_little)
    vfs("--repo", repository, "branch", "exp")
    for name in ("decided", "open"):
        (source / name).write_text("theirs\n")
    vfs("--repo", repository, "import", "--branch", "exp", source, "-m", "theirs")
    for name in ("decided", "open"):
        (source / name).write_text("ours\n")
    vfs("--repo", repository, "import", source, "-m", "ours")
    vfs("mount", repository, mountpoint)
    try:
        vfs("--repo", repository, "merge", "exp", status=1)
        vfs("--repo", repository, "merge", "--theirs", "decided", status=1)
        (mountpoint / "written in the merge").write_bytes(b"m" * 5000)
        versions["working layer"] = describe(mountpoint, holes=False)
    finally:
        vfs("umount", mountpoint)
    return versions | _exported(repository, source)


def fill_runs(repository: Path, source: Path, mountpoint: Path) -> dict[str, Description]:
    """Makes versions and runs: of a version, of uncommitted changes with an output, a failed one, a removed one."""
    versions = _two_versions(repository, source, make_little, change_little)
    environment = {"PATH": "/usr/bin:/bin", "LOGNAME": "author", "VFS_AUTHOR": AUTHOR, "OMP_NUM_THREADS": "2"}

    def run(*words: str | Path, status: int = 0) -> None:
        # The kernel's name is this machine's.
        begin = "import platform; platform.release = lambda: '6.12.0'; from vfs.__main__ import main; exit(main())"
        command = [sys.executable, "-c", begin, "--repo", str(repository), "run", *map(str, words)]
        done = subprocess.run(command, check=False, env=environment, cwd=source.parent, stderr=subprocess.DEVNULL)
        assert done.returncode == status, command

    vfs("mount", repository, mountpoint)
    try:
        run("--at", "v1", "--param", "lr=0.1", "--", "sh", "-c", f"cat {mountpoint}/many/*; echo a=1 > $VFS_METRICS")
        (mountpoint / "uncommitted.txt").write_bytes(b"read by a run\n" * 500)
        script = f"cd {mountpoint}; cat uncommitted.txt > model; ls many; echo password=hunter2hunter2"
        run("--", "sh", "-c", script + '; echo "acc=0.5 step=1" > $VFS_METRICS; echo acc: 0.75 >> $VFS_METRICS')
        run("--", "sh", "-c", "exit 3", status=3)
        run("--private", "--", "cat", mountpoint / "@v2/many/file0002.txt")
        vfs("--repo", repository, "runs", "remove", "r4")
        vfs("--repo", repository, "commit", "-m", "made by a run")
        (mountpoint / "later.txt").write_bytes(b"written after it\n")
        versions["working layer"] = describe(mountpoint, holes=False)
    finally:
        vfs("umount", mountpoint)
    with Repository.open(repository) as repo:
        shown = {run.name: json.loads(run_file(repo, run, RECORD) or b"") for run in list_runs(repo)}
    return versions | _exported(repository, source) | {"runs": shown}


def make_little(source: Path) -> None:
    """Makes a directory of a few files."""
    (source / "many").mkdir()
    for number in range(3):
        (source / f"many/file{number:04}.txt").write_text(f"{number}\n" * 2000)
    (source / "a link").symlink_to("many")


def change_little(source: Path) -> None:
    """Changes one of them."""
    (source / "many/file0002.txt").write_text("changed\n")


def _two_versions(
    repository: Path, source: Path, make: Callable[[Path], None], change: Callable[[Path], None]
) -> dict[str, Description]:
    vfs("init", repository)
    make(source)
    versions = {"v1": describe(source)}
    vfs("--repo", repository, "import", source, "-m", "everything")
    change(source)
    versions["v2"] = describe(source)
    vfs("--repo", repository, "import", source, "-m", "some of it changed")
    vfs("--repo", repository, "tag", "second", "v2")
    return versions


def _exported(repository: Path, source: Path) -> dict[str, Description]:
    exported = source.with_name("exported")
    vfs("--repo", repository, "export", "v3", exported)
    return {"v3": describe(exported)}


FILLS = {
    "format-1-partial.tar.gz": fill_partial,
    "format-1-merge.tar.gz": fill_merge,
    "format-1-runs.tar.gz": fill_runs,
}


def main(target: Path) -> None:
    """Writes the archive."""
    with tempfile.TemporaryDirectory() as scratch:
        repository, source, mountpoint = (Path(scratch, name) for name in ("repository", "source", "mount"))
        source.mkdir()
        mountpoint.mkdir()
        expected = Path(scratch, "expected.json")
        fill_it = FILLS.get(target.name, fill)
        text = json.dumps(fill_it(repository, source, mountpoint), sort_keys=True)
        expected.write_text(text + "\n", encoding="utf-8")
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
