"""Whose opens a record has: all of the program's, in whatever process, and no other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.command_server import run_vfs
from support.mounts import Mount
from support.ways import WAYS
from vfs.repo.repository import Repository
from vfs.repo.runs.observed import opened_paths
from vfs.repo.runs.records import find_run, load_manifest, load_record

pytestmark = pytest.mark.mount
VFS = str(Path(sys.executable).with_name("vfs"))


def vfs_run(mountpoint: Path, *words: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a program by `vfs run`; returns how it ended."""
    return run_vfs("--repo", mountpoint, "run", *words, directory=cwd, variables=more)


def opened(repository: Path, name: str) -> set[str]:
    """Returns the names of the files that a run opened."""
    with Repository.open(repository) as repo:
        run = find_run(repo, name)
        record = load_record(repo, run)
        reads = load_manifest(repo, run).reads
        found = [path for pair in zip(record.sources, reads, strict=True) for path in opened_paths(repo, *pair, None)]
    return {path.decode() for path in found}


def test_every_way_to_open_a_file_is_recorded_and_no_outsider(mount: Mount, tmp_path: Path) -> None:
    repository = mount.repository
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for number in range(len(WAYS)):
        (mount / f"w{number:02}").write_text("x\n" * 50)
        (mount / f"o{number:02}").write_text("y" * 100)
    mount.commit()
    ended = threading.Event()

    def outsider() -> None:
        while not ended.is_set():
            for number in range(len(WAYS)):
                (mount / f"o{number:02}").read_text()
                subprocess.run(["/bin/cat", str(mount / f"o{number:02}")], stdout=subprocess.DEVNULL, check=True)

    other = threading.Thread(target=outsider)
    other.start()
    try:
        script = scratch / "all.sh"
        lines = []
        for number, (name, way) in enumerate(WAYS.items()):
            given = f"set -- {mount / f'w{number:02}'} {scratch / f's{number:02}'}"
            lines.append(f"( {given}; {way} ) >/dev/null || echo 'failed {name}'")
        script.write_text("\n".join(lines))
        done = vfs_run(mount.path, "--", "sh", str(script), cwd=scratch)
    finally:
        ended.set()
        other.join()
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout, done.stdout
    names = list(WAYS)
    found = opened(repository, "r1")
    missed = [names[number] for number in range(len(WAYS)) if f"w{number:02}" not in found]
    assert not missed
    assert {name for name in found if not name.startswith("w")} == set()


def test_what_a_step_opens_is_in_its_record_and_in_that_of_the_pipeline(mount: Mount, tmp_path: Path) -> None:
    repository = mount.repository
    for name in ("one", "two", "three"):
        (mount / name).write_text(name)
    mount.commit()
    step = f"{VFS} --repo {mount.path} run -- cat"
    script = f"cat {mount / 'one'}; {step} {mount / 'two'}; {step} {mount / 'three'}"
    done = vfs_run(mount.path, "--", "sh", "-c", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert opened(repository, "r1") == {"one", "two", "three"}
    assert opened(repository, "r2") == {"two"}
    assert opened(repository, "r3") == {"three"}
    with Repository.open(repository) as repo:
        outer, *inner = [load_record(repo, find_run(repo, name)) for name in ("r1", "r2", "r3")]
    assert list(outer.steps) == [record.id for record in inner]
    assert {record.parent for record in inner} == {outer.id}


def test_workers_that_others_start_join_by_command_and_by_environment(mount: Mount, tmp_path: Path) -> None:
    repository = mount.repository
    for name in ("own", "joined", "variable", "never"):
        (mount / name).write_text(name)
    mount.commit()
    fifo, told = tmp_path / "fifo", tmp_path / "told"
    os.mkfifo(fifo)
    os.mkfifo(told)
    script = f"cat {mount / 'own'}; echo $VFS_RUN > {told}; read -r line < {fifo}"
    command = [VFS, "--repo", str(mount.path), "run", "--", "sh", "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        run_id = told.read_text().strip()
        joined = vfs_run(mount.path, "--join", "r1", "--", "cat", str(mount / "joined"), cwd=tmp_path)
        assert joined.returncode == 0, joined.stderr
        assert joined.stdout == "joined"
        variables = {**os.environ, "VFS_RUN": run_id}
        subprocess.run(["cat", mount / "variable"], env=variables, stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["cat", mount / "never"], stdout=subprocess.DEVNULL, check=True)
        fifo.write_text("go on\n")
        process.communicate(timeout=300)
    late = vfs_run(mount.path, "--join", "r1", "--", "true", cwd=tmp_path)
    assert late.returncode != 0
    assert "has ended" in late.stderr
    assert opened(repository, "r1") == {"own", "joined", "variable"}


def test_json_shows_the_record(mount: Mount, tmp_path: Path) -> None:
    repository = mount.repository
    (mount / "a").write_text("a")
    mount.commit()
    vfs_run(mount.path, "--param", "lr=0.1", "--", "cat", str(mount / "a"), cwd=tmp_path)
    listed = subprocess.run([VFS, "-R", str(repository), "runs", "--json"], capture_output=True, text=True, check=True)
    document = json.loads(listed.stdout)
    assert document["name"] == "r1"
    assert document["params"] == {"lr": "0.1"}
    assert document["sources"][0]["opened"] == 1
