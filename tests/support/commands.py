"""Commands run in the test's own process on one repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vfs.cli.main import main

Run = Callable[..., str]
"""Runs a command given as words, checks its exit `status`, and returns its output; its errors for a status above 1."""


def commands_on(repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Makes a repository and returns what runs commands on it, as the author `ann@lab`."""
    monkeypatch.setenv("VFS_AUTHOR", "ann@lab")
    monkeypatch.delenv("VFS_REPO", raising=False)
    assert main(["init", str(repository)]) == 0

    def run(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        found = main(["--repo", str(repository), *words])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out if status < 2 else captured.err

    return run
