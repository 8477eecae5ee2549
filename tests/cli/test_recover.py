"""`vfs recover`: the way on where uncommitted changes are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import commands_on
from support.trees import write_file
from vfs.cli.main import main
from vfs.repo.repository import Repository


def test_a_damaged_layer_is_refused_everywhere_and_recovered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "repo"
    run = commands_on(path, capsys, monkeypatch)
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        for name in (b"a", b"damaged", b"z"):
            write_file(overlay, name, name * 1000)
            overlay.sync()
    journal = path / "work" / "main" / "journal-1"
    content = bytearray(journal.read_bytes())
    content[content.index(b"damaged")] ^= 1
    journal.write_bytes(content)
    for verb in ("status", "diff", "commit"):
        words = run(verb, *(("-m", "x") if verb == "commit" else ()), status=5)
        assert f"{journal} is damaged at byte" in words
        assert "vfs recover" in words
    assert journal.read_bytes() == content
    words = run("recover")
    assert "1 record" in words
    assert "journal-1.damaged" in words
    assert (journal.parent / "journal-1.damaged").read_bytes() == content
    shown = json.loads(run("status", "--json"))
    assert [change["path"] for change in shown["changes"]] == ["a", "z"]
    assert run("recover").startswith("Nothing is damaged.")
    assert json.loads(run("recover", "--json"))["notices"] == []


@pytest.mark.parametrize("position", [2, 9, 17, 30])
def test_a_damaged_heading_names_the_way_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    path = tmp_path / "repo"
    run = commands_on(path, capsys, monkeypatch)
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        write_file(overlay, b"a", b"a")
    journal = path / "work" / "main" / "journal-1"
    content = bytearray(journal.read_bytes())
    content[position] ^= 0x40
    journal.write_bytes(content)
    assert "vfs recover" in run("status", status=5)
    assert "is kept as journal-1.lost" in run("recover")
    assert json.loads(run("status", "--json"))["changes"] == []


def test_fsck_reports_a_torn_tail_of_every_file_of_a_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "repo"
    commands_on(path, capsys, monkeypatch)
    with Repository.open(path) as repo, repo.open_overlay() as overlay:
        write_file(overlay, b"a", b"a")
    for name in ("base", "journal-1"):
        file = path / "work" / "main" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-5])
        assert main(["fsck", str(path)]) == 0
        assert f"{file} ends in" in capsys.readouterr().err
        file.write_bytes(whole)
    assert main(["fsck", str(path)]) == 0
    assert "ends in" not in capsys.readouterr().err


def test_status_works_when_the_state_of_a_merge_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "repo"
    run = commands_on(path, capsys, monkeypatch)
    source = tmp_path / "source"
    source.mkdir()
    for branch, text in (("main", "one\n"), ("exp", "two\n"), ("main", "three\n")):
        (source / "t").write_text(text)
        run("import", str(source), "-m", text.strip(), "--branch", branch)
        if branch == "main" and text == "one\n":
            run("branch", "exp")
    run("merge", "exp", status=1)
    (path / "work" / "main" / "merge").unlink()
    assert main(["--repo", str(path), "status"]) == 5
    shown = capsys.readouterr()
    assert "M  t" in shown.out
    assert "vfs commit" not in shown.out
    assert "vfs merge --abort" in shown.err
    assert run("status", "--json", status=5)
