"""`vfs pin`: a file beside the code that names a version, and its check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.histories import add_versions
from vfs.repo.repository import Repository


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs commands on a repository with three versions."""
    made = commands_on(tmp_path / "repo", capsys, monkeypatch)
    with Repository.open(tmp_path / "repo") as repo:
        add_versions(repo, ({b"n": b"%d" % number} for number in range(3)))
    return made


def test_a_pinned_version_is_found_again(run: Run, tmp_path: Path) -> None:
    pin = tmp_path / "data.pin"
    pin.write_text(run("pin", "v2"))
    assert json.loads(pin.read_text())["version"] == 2
    assert "v2 of main" in run("pin", "--check", str(pin))
    assert "is there; 1 newer" in run("pin", "--check", str(pin))
    pin.write_text(run("pin"))
    assert "is there, the newest" in run("pin", "--check", str(pin))
    run("undo")
    # What was undone can be redone, so it is there, and has no number.
    assert json.loads(run("pin", "--check", str(pin), "--json"))["state"] == "moved"


def test_what_is_not_there_or_was_edited_fails(run: Run, tmp_path: Path) -> None:
    pin = tmp_path / "data.pin"
    text = run("pin", "v1")
    found = json.loads(text)
    pin.write_text(text.replace(found["commit"], "ab" * 32))
    assert "has no v1" in run("pin", "--check", str(pin), status=1)
    pin.write_text(text.replace(found["tree"], "ab" * 32))
    assert "was edited" in run("pin", "--check", str(pin), status=1)
    pin.write_text(text)
    run("forget", "v1", "--yes")
    assert "was forgotten" in run("pin", "--check", str(pin), status=1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 10000,
        b'{"format": 1, "commit": "xy", "tree": ""}',
        b'{"format": 9, "commit": "", "tree": ""}',
        b"x" * 70_000,
    ],
)
def test_other_files_are_no_pins(run: Run, tmp_path: Path, data: bytes) -> None:
    pin = tmp_path / "data.pin"
    pin.write_bytes(data)
    assert "data.pin" in run("pin", "--check", str(pin), status=2)
    assert "no such file" in run("pin", "--check", str(tmp_path / "nowhere"), status=3).lower()
