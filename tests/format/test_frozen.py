"""Repositories made by past programs read as they were written, whatever has changed since.

Each archive below data/ was made once by make_frozen.py and is never made again.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from support.plain_trees import describe
from support.shell import vfs

DATA = Path(__file__).parent / "data"
ARCHIVES = (
    ("format-1.tar.gz",),
    ("format-1.tar.gz", "format-1-summary.tar.gz"),
    ("format-1-partial.tar.gz",),
    ("format-1-merge.tar.gz",),
    ("format-1-runs.tar.gz",),
    ("format-1-node-blocks.tar.gz",),
)
"""What is unpacked, a later one in place of parts of an earlier one."""


@pytest.fixture(params=ARCHIVES, ids=lambda names: names[-1].partition(".")[0])
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with the unpacked `repository` and `expected.json`."""
    for name in request.param:
        if name != request.param[0]:
            shutil.rmtree(tmp_path / "repository" / "work")
        with tarfile.open(DATA / name) as archive:
            archive.extractall(tmp_path, filter="fully_trusted")
    return tmp_path


def test_there_is_a_repository_of_every_format_version() -> None:
    assert {path.name for path in DATA.glob("format-*.tar.gz")} == {name for names in ARCHIVES for name in names}


@pytest.mark.mount
def test_a_frozen_repository_reads_as_it_was_written(frozen: Path) -> None:
    """Every version exported, the working layer through a mount, everything checked, the index made from nothing."""
    repository = frozen / "repository"
    expected = json.loads((frozen / "expected.json").read_text(encoding="utf-8"))
    working = expected.pop("working layer")
    expected.pop("runs", None)
    assert sorted(expected) == ["v1", "v2", "v3"]
    for version, description in expected.items():
        vfs("--repo", repository, "export", version, frozen / version)
        assert describe(frozen / version) == description
    mountpoint = frozen / "mount"
    mountpoint.mkdir()
    vfs("mount", repository, mountpoint)
    try:
        assert describe(mountpoint, holes=False) == working
    finally:
        vfs("umount", mountpoint)
    assert "second" in vfs("--repo", repository, "tag")
    vfs("fsck", "--read-data", repository)


def test_a_frozen_merge_goes_on(tmp_path: Path) -> None:
    """What was decided is, what was not is asked for; then the version has both parents and what was written since."""
    with tarfile.open(DATA / "format-1-merge.tar.gz") as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    repository = tmp_path / "repository"
    merging = json.loads(vfs("--repo", repository, "status", "--json"))["merge"]
    assert [conflict["path"] for conflict in merging["conflicts"]] == ["open"]
    vfs("--repo", repository, "merge", "--ours", "open")
    vfs("--repo", repository, "merge", "--continue")
    newest = json.loads(vfs("--repo", repository, "log", "-n", "1", "--json").splitlines()[0])
    assert len(newest["parents"]) == 2
    names = ("decided", "open", "written in the merge")
    assert [vfs("--repo", repository, "cat", "latest", name) for name in names] == ["theirs\n", "ours\n", "m" * 5000]


def test_a_frozen_part_of_a_commit_goes_on(tmp_path: Path) -> None:
    """What was left out is a change still, and becomes a version; what is ignored stays."""
    with tarfile.open(DATA / "format-1-partial.tar.gz") as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    repository = tmp_path / "repository"
    changes = json.loads(vfs("--repo", repository, "status", "--json", "--ignored"))
    assert {"left.txt", "later.txt", "moved.txt"} <= {change["path"] for change in changes["changes"]}
    assert changes["ignored_paths"] == ["ignored.tmp"]
    vfs("--repo", repository, "commit", "-m", "the rest")
    assert vfs("--repo", repository, "cat", "latest", "left.txt") == "left.txt" * 500
    assert json.loads(vfs("--repo", repository, "status", "--json"))["changes"] == []


@pytest.mark.mount
def test_frozen_runs_are_read_shown_and_gone_on_with(tmp_path: Path) -> None:
    """Records are those that were written, the mount shows what they read and wrote, a new run gets a new number."""
    with tarfile.open(DATA / "format-1-runs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    repository = tmp_path / "repository"
    records = json.loads((tmp_path / "expected.json").read_text())["runs"]
    assert sorted(records) == ["r1", "r2", "r3"]
    for name, record in records.items():
        document = json.loads(vfs("--repo", repository, "runs", "show", name, "--json"))
        assert document["record"] == record
    assert "r2" in vfs("--repo", repository, "log", "-n", "1")
    assert "acc" in vfs("--repo", repository, "runs", "diff", "r1", "r2")
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    vfs("mount", repository, mountpoint)
    try:
        shown = mountpoint / "@/runs"
        assert sorted(path.name for path in (shown / "r1/inputs/many").iterdir()) == [
            f"file{number:04}.txt" for number in range(3)
        ]
        assert (shown / "r2/outputs/model").read_bytes() == b"read by a run\n" * 500
        assert (shown / "r2/inputs/uncommitted.txt").read_bytes() == b"read by a run\n" * 500
        assert [json.loads(line) for line in (shown / "r2/metrics.jsonl").read_text().splitlines()] == [
            {"acc": 0.5, "step": 1},
            {"acc": 0.75},
        ]
        vfs("--repo", repository, "run", "--", "true")
    finally:
        vfs("umount", mountpoint)
    assert json.loads(vfs("--repo", repository, "runs", "-n", "1", "--json"))["name"] == "r5"
