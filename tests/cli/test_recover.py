"""`vfs recover`: the way on where uncommitted changes are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import commands_on
from support.trees import write_file
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
