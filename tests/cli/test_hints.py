"""What the core advises is a sentence on the command line, also where it came from a daemon."""

from __future__ import annotations

import msgspec
import pytest

from vfs.api.hints import hint_text, notice_text
from vfs.control.client import error_of
from vfs.control.messages import Failure
from vfs.errors import Advice, Busy, Hint, VfsError


class Names(dict[str, str]):
    """Any name that a sentence asks for."""

    def __missing__(self, name: str) -> str:
        return f"<{name}>"


@pytest.mark.parametrize("advice", Advice)
def test_every_advice_is_a_sentence(advice: Advice) -> None:
    text = hint_text(Hint(advice, Names()))
    assert text.endswith(".")
    assert "{" not in text


def test_names_are_not_read_as_parts_of_the_sentence() -> None:
    name = "{count} {0} {"
    assert hint_text(Hint(Advice.SWITCH_TO, {"branch": name})) == f"`vfs switch {name}` goes there."


def test_notice_without_a_hint_is_its_text() -> None:
    assert notice_text("it was mended", "") == "it was mended"
    assert notice_text("it was mended", "Look.") == "it was mended. Look."


@pytest.mark.parametrize("hint", ["", "Wait.", Hint(Advice.SWITCH_TO, {"branch": "relabel"})])
def test_hint_of_the_daemon_is_worded_at_the_client(hint: Hint | str) -> None:
    sent = msgspec.json.encode(Failure(Busy.code, "it is in use", hint, Busy.exit_status))
    received: VfsError = error_of(msgspec.json.decode(sent, type=Failure))
    assert received.hint == hint
