"""What a record says beside what strace says: no open missed, none invented."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.mounts import Mount
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import opened_paths
from vfs.repo.runs.records import find_run, load_manifest, load_record

pytestmark = pytest.mark.mount
VFS = str(Path(sys.executable).with_name("vfs"))
FILES = 40

_OPENED = re.compile(r"(?:open|openat|openat2|creat)\(.*?, ([A-Z_|0-9]+)[^)]*\)\s+= \d+<([^>]*)>")
_EXECUTED = re.compile(r'execve\("([^"]*)".*\)\s+= 0')

_READ_ALL = "import os, sys\nd = sys.argv[1]\nfor n in sorted(os.listdir(d)): open(os.path.join(d, n), 'rb').read()"
_WORKERS = """
import multiprocessing, os, sys
def read(path): return len(open(path, "rb").read())
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    with context.Pool(3) as pool:
        paths = [os.path.join(sys.argv[1], name) for name in os.listdir(sys.argv[1])]
        pool.map(read, paths, chunksize=1)
        pool.close(); pool.join()
"""
_STATIC = """
#include <fcntl.h>
#include <unistd.h>
int main(int n, char **words) {
    char b[10];
    for (int i = 1; i < n; i++) read(open(words[i], O_RDONLY), b, 10);
    return 0;
}
"""
_WRITES = """
import os, sys
os.chdir(sys.argv[1])
open("new", "w").write("n")
open("f01", "a").write("more")
with open("half.tmp", "w") as file: file.write("h")
os.rename("half.tmp", "whole")
os.unlink("f02"); os.truncate("f03", 1); os.symlink("f04", "link")
open("short-lived", "w").close(); os.unlink("short-lived")
"""


def programs(directory: Path) -> dict[str, str]:
    """Returns the shell commands to audit; {data} is the directory with the files, below the mount."""
    (directory / "all.py").write_text(_READ_ALL)
    (directory / "workers.py").write_text(_WORKERS)
    (directory / "static.c").write_text(_STATIC)
    subprocess.run(["gcc", "-static", "-o", directory / "static", directory / "static.c"], check=True)
    python = f"{sys.executable} -I"
    return {
        "cat": "cat {data}/f01 {data}/f02 {data}/absent || true",
        "python": f"{python} {directory}/all.py {{data}}",
        "find and xargs": "find {data} -type f | xargs -P4 -n3 cat",
        "fork": f"{python} {directory}/workers.py {{data}} fork",
        "spawn": f"{python} {directory}/workers.py {{data}} spawn",
        "forkserver": f"{python} {directory}/workers.py {{data}} forkserver",
        "static binary": f"{directory}/static {{data}}/f0*",
        "program in the mount": "{data}/program {data}/f05",
    }


def audited(mount: Mount, data: Path, command: str, cwd: Path) -> tuple[set[str], set[str]]:
    """Runs a command under strace by the program; returns the files below the mount that were opened, and listed."""
    trace = Path(tempfile.mkdtemp(dir=cwd), "trace")
    calls = "trace=open,openat,openat2,creat,execve"
    # A file for each thread: in one, calls at the same time are cut in two lines.
    strace = ["strace", "-ff", "-y", "-s", "4096", "-o", str(trace), "-e", calls, "--", "sh", "-c"]
    words = [VFS, "--repo", str(mount.path), "run", "--", *strace, command.replace("{data}", str(data))]
    done = subprocess.run(words, cwd=cwd, capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    files: set[str] = set()
    listed: set[str] = set()
    lines = [line for path in trace.parent.iterdir() for line in path.read_text(errors="replace").splitlines()]
    for line in lines:
        found = _OPENED.search(line)
        if found is not None and Path(found[2]).is_relative_to(mount.path) and "O_PATH" not in found[1]:
            path = os.path.relpath(found[2], mount.path)
            (listed if os.path.isdir(found[2]) else files).add(path)
        ran = _EXECUTED.search(line)
        if ran is not None and Path(ran[1]).is_relative_to(mount.path):
            files.add(os.path.relpath(ran[1], mount.path))
    return files, listed


def recorded(repository: Path, name: str) -> tuple[set[str], set[str]]:
    """Returns the files that a run opened and the directories that it listed."""
    with Repository.open(repository) as repo:
        run = find_run(repo, name)
        record = load_record(repo, run)
        reads = load_manifest(repo, run).reads
        files = {path for pair in zip(record.sources, reads, strict=True) for path in opened_paths(repo, *pair, None)}
        listed = {path for read in reads for path in read.listed}
    return {path.decode() for path in files}, {path.decode() or "." for path in listed}


def filled(mount: Mount) -> Path:
    """Commits a directory of files, of which one is a program; returns it."""
    data = mount / "data"
    data.mkdir()
    for number in range(FILES):
        (data / f"f{number:02}").write_text(f"{number}\n" * 200)
    shutil.copyfile("/bin/cat", data / "program")
    (data / "program").chmod(0o755)
    mount.commit()
    return data


def test_records_are_what_strace_sees(mount: Mount, tmp_path: Path) -> None:
    data = filled(mount)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    differing = {}
    for number, (name, command) in enumerate(programs(scratch).items(), 1):
        expected = audited(mount, data, command, scratch)
        found = recorded(mount.repository, f"r{number}")
        assert expected[0], name
        if found != expected:
            differing[name] = [
                (sorted(one - other), sorted(other - one)) for one, other in zip(expected, found, strict=True)
            ]
    assert differing == {}


def test_files_of_versions_that_are_opened_again_and_again_are_in_each_run_that_opens_them(
    mount: Mount, tmp_path: Path
) -> None:
    filled(mount)
    data = mount / "@v1" / "data"
    vfs = f"{VFS} --repo {mount.path}"
    vfs_run = f"{vfs} run --"
    # Many short processes, before and after a commit and a switch, and within another run.
    command = " && ".join(
        (
            "cat {data}/f0[0-4]",
            "for i in 1 2 3; do ls {data}; printf '%s\\n' {data}/f[01]* | xargs -P3 -n2 cat; done",
            f"echo > {mount.path}/new && {vfs} commit -m two && cat {{data}}/f0[2-6]",
            f"{vfs_run} sh -c 'cat {{data}}/f0[4-7] {{data}}/f0[4-7]; ls {{data}}'",
            f"({vfs} branch side || true) && {vfs} switch side && cat {{data}}/f0[6-9] {mount.path}/@v1/data/f2*",
            f"{vfs} switch main && cat {{data}}/f2[0-5] {mount.path}/@v2/data/f2*",
        )
    )
    for number in (1, 3):
        opened, listed = (_in_versions(paths) for paths in audited(mount, data, command, tmp_path))
        assert len(opened) == 30
        assert recorded(mount.repository, f"r{number}") == (opened, listed)
        assert recorded(mount.repository, f"r{number + 1}") == ({f"data/f0{i}" for i in (4, 5, 6, 7)}, {"data"})


def _in_versions(paths: set[str]) -> set[str]:
    """Returns the paths in versions of what was opened below `@v1` and `@v2`."""
    return {path.partition("/")[2] for path in paths if path.startswith("@v")}


def test_what_is_written_is_recorded_where_it_is_in_the_end(mount: Mount, tmp_path: Path) -> None:
    filled(mount)
    script = tmp_path / "writes.py"
    script.write_text(_WRITES)
    words = [VFS, "--repo", str(mount.path), "run", "--", sys.executable, "-I", str(script), str(mount / "data")]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    with Repository.open(mount.repository) as repo:
        record = load_record(repo, find_run(repo, "r1"))
    found = {output.path.removeprefix("data/"): output.removed for output in record.outputs if output.place == "mount"}
    assert found == {"new": False, "f01": False, "whole": False, "f02": True, "f03": False, "link": False}


def test_a_pinned_program_reads_its_version_by_the_same_path(mount: Mount, tmp_path: Path) -> None:
    data = filled(mount)
    (data / "f01").write_text("changed")
    mount.commit()
    words = [VFS, "--repo", str(mount.path), "run", "--at", "v1", "--", "cat", str(data / "f01")]
    done = subprocess.run(words, cwd=data, check=True, capture_output=True, text=True)
    assert done.stdout == "1\n" * 200
    assert (data / "f01").read_text() == "changed"
    with Repository.open(mount.repository) as repo:
        record = load_record(repo, find_run(repo, "r1"))
    [source] = record.sources
    assert (source.number, source.known, source.opened, source.shared) == (1, "pinned", 1, 0)
