"""Names and paths as bytes."""

from __future__ import annotations

import pytest

from vfs.errors import InvalidInput, NameTooLong
from vfs.model.names import check_name, join_path, path_text, show_path, split_path


@pytest.mark.parametrize("name", [b"a", b"\xff\xfe", b"a b", b"@v1", b"...", b"x" * 255, b"new\nline"])
def test_any_bytes_but_slash_and_nul_can_name_an_entry(name: bytes) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0"])
def test_what_cannot_name_an_entry_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidInput):
        check_name(name)


def test_a_name_of_256_bytes_is_too_long() -> None:
    with pytest.raises(NameTooLong):
        check_name(b"x" * 256)


def test_paths_split_into_names_and_never_climb() -> None:
    assert split_path(b"/a//b/./c/") == [b"a", b"b", b"c"]
    assert split_path(b"") == []
    with pytest.raises(InvalidInput):
        split_path(b"a/../b")


def test_joining_at_the_root_adds_no_slash() -> None:
    assert join_path(b"", b"a") == b"a"
    assert join_path(b"a", b"b") == b"a/b"


def test_shown_paths_have_no_control_characters_and_keep_what_is_readable() -> None:
    assert show_path("grün/ü".encode()) == "grün/ü"
    assert show_path(b"a\x1b[31m\n") == "a\\x1b[31m\\n"
    assert show_path(b"\xff") == "\\xff"


def test_path_text_keeps_every_byte() -> None:
    assert path_text(b"\xff\xfe").encode("utf-8", "surrogateescape") == b"\xff\xfe"
