"""Profiles of Amazon's tools are found as these tools find them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vfs.cli.opening.cloud_credentials import use_profile


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        # So that what the test sets is taken back at its end.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = DS\n\n[lab]\naws_access_key_id=L\n"
        "aws_secret_access_key=LS\naws_session_token=T%1\n"
    )
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-1\n[profile lab]\nregion = us-9\n")


def _found() -> list[str | None]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION")
    return [os.environ.get(name) for name in names]


def test_the_default_profile_is_used_where_nothing_else_is_there() -> None:
    use_profile()
    assert _found() == ["D", "DS", None, "eu-1"]


def test_a_named_profile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "lab")
    use_profile()
    assert _found() == ["L", "LS", "T%1", "us-9"]


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")
    use_profile()
    assert _found() == ["E", None, None, None]


@pytest.mark.parametrize("text", ["", "no section\n", "\0\xff"])
def test_a_file_that_is_none_is_passed_over(text: str, tmp_path: Path) -> None:
    (tmp_path / ".aws" / "credentials").write_text(text, encoding="latin-1")
    (tmp_path / ".aws" / "config").unlink()
    use_profile()
    assert _found() == [None] * 4
