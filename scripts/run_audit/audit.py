"""Runs programs under strace within `vfs run`, and compares what the records have with what strace saw."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.mounts import Mount, mounted
from vfs.model.ids import CommitId
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import opened_paths
from vfs.repo.runs.records import RunRef, find_run, load_manifest, load_record

HERE = Path(__file__).parent
VFS = str(Path(sys.executable).with_name("vfs"))
CALLS = "trace=open,openat,openat2,creat,execve"
_OPENED = re.compile(r"(?:open|openat|openat2|creat)\(.*?, ([A-Z_|0-9]+)[^)]*\)\s+= \d+<([^>]*)>")
_EXECUTED = re.compile(r'execve\("([^"]*)".*\)\s+= 0')
_STATIC = """
#include <fcntl.h>
#include <unistd.h>
int main(int n, char **words) {
    char b[10];
    for (int i = 1; i < n; i++) if (read(open(words[i], O_RDONLY), b, 10) < 0) return 1;
    return 0;
}
"""


def programs(python: str, scratch: Path, data: Path) -> Iterator[tuple[str, str]]:
    """Yields names and shell commands."""
    program = f"{python} -I {HERE}"
    for backend in ("loky", "threading", "multiprocessing"):
        yield (
            f"scikit-learn, joblib by {backend}",
            f"{program}/sklearn_joblib.py {data} {data}/model-{backend} {backend}",
        )
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode == 0:
        yield "DataLoader, no worker", f"{program}/torch_loader.py {data} 0 none"
        for workers in (2, 4):
            for method in ("fork", "spawn", "forkserver"):
                yield f"DataLoader, {workers} by {method}", f"{program}/torch_loader.py {data} {workers} {method}"
    else:
        print("PyTorch is not installed: its programs are left out", flush=True)
    yield "pandas and pyarrow", f"{program}/pandas_pyarrow.py {data}"
    yield "HDF5", f"{program}/hdf5.py {data}"
    yield "find and xargs -P4", f"find {data}/files -type f -print0 | xargs -0 -P4 -n5 cat >/dev/null"
    (scratch / "static.c").write_text(_STATIC)
    subprocess.run(["gcc", "-static", "-o", scratch / "static", scratch / "static.c"], check=True)
    yield "a static binary", f"{scratch}/static {data}/files/f0*"
    yield "a static binary in the mount", f"cp {scratch}/static {data}/static && {data}/static {data}/files/f1*"


def traced(mount: Mount, command: str, scratch: Path) -> tuple[set[str], set[str], set[str]]:
    """Runs a command under strace by `vfs run`; returns what it opened for reading, listed, and opened for writing."""
    trace = Path(tempfile.mkdtemp(dir=scratch), "trace")
    # A file for each thread: in one, calls at the same time are cut in two lines.
    strace = ["strace", "-ff", "-y", "-s", "4096", "-o", str(trace), "-e", CALLS, "--", "sh", "-c", command]
    done = subprocess.run(
        [VFS, "--repo", str(mount.path), "run", "--", *strace], cwd=scratch, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    read: set[str] = set()
    listed: set[str] = set()
    written: set[str] = set()
    for file in trace.parent.iterdir():
        for line in file.read_text(errors="replace").splitlines():
            found = _OPENED.search(line)
            if found is not None and Path(found[2]).is_relative_to(mount.path) and "O_PATH" not in found[1]:
                path = os.path.relpath(found[2], mount.path)
                if Path(found[2]).is_dir():
                    listed.add(path)
                elif {"O_WRONLY", "O_RDWR", "O_TRUNC", "O_CREAT"} & set(found[1].split("|")):
                    written.add(path)
                else:
                    read.add(path)
            ran = _EXECUTED.search(line)
            if ran is not None and Path(ran[1]).is_relative_to(mount.path):
                read.add(os.path.relpath(ran[1], mount.path))
    # What a program has written itself and reads again is no input.
    return read - written, listed, written


def recorded(repository: Path, name: str) -> tuple[set[str], set[str], set[str]]:
    """Returns what a record has: files opened, directories listed, files written in the mount."""
    with Repository.open(repository) as repo:
        run = find_run(repo, name)
        record = load_record(repo, run)
        before = repo.store.get_commit(run_parents[0]) if (run_parents := _parents(repo, run)) else None
        read: set[str] = set()
        listed: set[str] = set()
        for source, each in zip(record.sources, load_manifest(repo, run).reads, strict=True):
            read |= {path.decode() for path in opened_paths(repo, source, each, before)}
            listed |= {path.decode() or "." for path in each.listed}
        written = {output.path for output in record.outputs if output.place == "mount"}
        if record.notes:
            print(f"    {name}: {'; '.join(record.notes)}", flush=True)
    return read, listed, written


def _parents(repo: Repository, run: RunRef) -> list[CommitId]:
    return [CommitId(parent) for parent in repo.store.get_commit(run.commit_id).parents]


def main() -> int:
    """Audits all programs, or those whose name has one of the words given; returns 1 if a record differs."""
    python, wanted = sys.argv[1], sys.argv[2:]
    differing = 0
    with tempfile.TemporaryDirectory(prefix="audit-") as name:
        scratch = Path(name)
        Repository.init(scratch / "repo").close()
        with mounted(scratch / "repo", scratch / "mount") as mount:
            data = mount / "data"
            data.mkdir()
            subprocess.run([python, "-I", str(HERE / "make_data.py"), str(data)], check=True)
            mount.commit()
            number = 0
            for title, command in programs(python, scratch, data):
                if wanted and not any(word in title for word in wanted):
                    continue
                number += 1
                expected = traced(mount, command, scratch)
                found = recorded(mount.repository, f"r{number}")
                missed = [sorted(one - other) for one, other in zip(expected, found, strict=True)]
                invented = [sorted(other - one) for one, other in zip(expected, found, strict=True)]
                counts = ", ".join(
                    f"{len(each)} {what}" for each, what in zip(expected, ("opened", "listed", "written"), strict=True)
                )
                print(
                    f"{title}: {counts}; missed {sum(map(len, missed))}, invented {sum(map(len, invented))}", flush=True
                )
                if any(missed) or any(invented):
                    differing += 1
                    print(f"    missed {missed}\n    invented {invented}", flush=True)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
