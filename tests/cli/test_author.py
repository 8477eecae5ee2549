"""Author and message of a commit."""

from __future__ import annotations

import os
import re

import click
import pytest

from vfs.cli.arguments.author import author, message_from
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


def test_missing_message_is_misuse_without_a_terminal() -> None:
    with pytest.raises(click.UsageError, match="-m"):
        message_from(None)


CONTROLS = ["\x1b[31m", "\x07", "\0", "\x7f", "\x9b", "\r", "\u202e", "\u2066", "\u2028"]


@pytest.mark.parametrize("bad", [*CONTROLS, "\n", "\t"])
def test_an_author_with_control_characters_is_refused(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if bad == "\0":
        # No variable can hold one.
        monkeypatch.setattr(os, "environ", {"VFS_AUTHOR": f"ann{bad}bob"})
    else:
        monkeypatch.setenv("VFS_AUTHOR", f"ann{bad}bob")
    with pytest.raises(InvalidInput, match="control character") as caught:
        author()
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("bad", CONTROLS)
def test_a_message_with_control_characters_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput, match="control character") as caught:
        message_from(f"first\nsecond{bad}x")
    assert caught.value.message.isprintable()


def test_a_message_keeps_tabs_and_writing_of_all_directions_and_loses_carriage_returns() -> None:
    assert (
        message_from("a\tb\r\n\u05e9\u05dc\u05d5\u05dd 👩\u200d🔬\r\n") == "a\tb\n\u05e9\u05dc\u05d5\u05dd 👩\u200d🔬"
    )
