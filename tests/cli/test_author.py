"""Who commits and why."""

from __future__ import annotations

import re

import click
import pytest

from vfs.cli.author import author, message_from
from vfs.errors import InvalidInput


def test_author_is_the_variable_or_user_at_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VFS_AUTHOR", " Ann <ann@lab> ")
    assert author() == "Ann <ann@lab>"
    monkeypatch.setenv("VFS_AUTHOR", "")
    monkeypatch.setenv("LOGNAME", "ann")
    assert re.fullmatch(r"ann@\S+", author())


def test_message_keeps_its_lines_and_loses_empty_ones_around() -> None:
    assert message_from("\nfirst\n\nsecond \n\n") == "first\n\nsecond"


def test_empty_message_is_refused() -> None:
    with pytest.raises(InvalidInput, match="empty"):
        message_from(" \n ")


def test_missing_message_is_misuse_where_nobody_can_be_asked() -> None:
    with pytest.raises(click.UsageError, match="-m"):
        message_from(None)
