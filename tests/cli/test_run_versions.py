"""The version that a run read, where its commit is not in this clone: found by its number, and said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import commands_on
from support.recorded_runs import AUTHOR, write_file
from vfs.cli.arguments.run_versions import version_or_read
from vfs.cli.opening.locate import find_place
from vfs.cli.opening.open_repository import OpenRepository
from vfs.model.run_record import Manifest, Read, RunRecord, Source, encode_manifest
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.runs.records import MANIFEST, begin_run


@pytest.mark.parametrize("is_here", [True, False])
def test_a_version_of_another_commit_is_not_exact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    path = tmp_path / "repo"
    run = commands_on(path, capsys, monkeypatch)
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        write_file(overlay, b"raw", b"1,2\n" * 100)
        commit(repo, overlay, "raw", AUTHOR)
        version = repo.resolve("v1")
        source = Source("main", 1, version.id.hex() if is_here else "ab" * 32, "pinned", opened=1, files=1)
        record = RunRecord(id="e" * 16, number=1, status="ok", command=("train",), sources=(source,))
        files = {MANIFEST: encode_manifest(Manifest((Read(True),)))}
        begin_run(repo, record, files, before=None, author=AUTHOR)
    for words in (["r1"], ["--used-by", "raw"], ["--used-by", "v1"] if is_here else ["r1"]):
        assert ("not exact: by number" in run("lineage", *words)) != is_here
    with Repository.open(path) as repo:
        opened = OpenRepository(find_place(str(path), None), repository=repo, branch="main", asked_ns=0)
        assert version_or_read(opened, "r1").id == version.id
    assert ("abababab, which r1 read, is not here" in capsys.readouterr().err) != is_here
