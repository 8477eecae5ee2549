"""The history of a DVC repository as versions, read by the real DVC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vfs


def test_each_revision_of_a_dvc_repository_comes_with_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source, bin_ = tmp_path / "source", Path(sys.executable).parent
    source.mkdir()

    def run(*words: str | Path) -> None:
        subprocess.run(words, cwd=source, check=True, capture_output=True)

    run("git", "init", "-q", "-b", "main")
    run("git", "config", "user.email", "a@b")
    run("git", "config", "user.name", "Ann")
    run(bin_ / "dvc", "init", "-q")
    run(bin_ / "dvc", "remote", "add", "-d", "there", tmp_path / "storage")
    for number in (1, 2):
        (source / "data.bin").write_bytes(b"x" * number)
        run(bin_ / "dvc", "add", "-q", "data.bin")
        run("git", "add", "-A")
        run("git", "commit", "-qm", f"data {number}")
        run(bin_ / "dvc", "push", "-q")
    repository = tmp_path / "repo"
    vfs.init(repository).close()
    subprocess.run(
        [bin_ / "vfs", "--repo", repository, "import", "--from", f"dvc+file://{source}", "--revisions", "main"],
        check=True,
    )
    with vfs.open(repository) as opened:
        assert [opened[name].read_bytes("data.bin") for name in ("v1", "v2")] == [b"x", b"xx"]
        assert [version.message for version in opened.log()] == ["data 2", "data 1"]
        assert opened["v2"].metadata["vfs.source"] == f"dvc+file://{source}"
