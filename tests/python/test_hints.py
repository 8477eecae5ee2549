"""The hint of an error that a program meets names the next call, below the traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest

import vfs
from vfs.errors import Advice, Hint, NotFound, VfsError
from vfs.python.hints import hint_text, worded


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[vfs.Repository]:
    with vfs.init(tmp_path / "repo") as made:
        with made.working() as layer:
            layer.write("a", b"1")
            layer.commit("first")
        yield made


def test_an_unknown_version_names_the_call_that_lists_them(repo: vfs.Repository) -> None:
    with pytest.raises(NotFound) as caught:
        repo["v9"]
    assert "`repo.log()`" in str(caught.value.hint)
    assert "repo.log()" in "".join(traceback.format_exception(caught.value))


def test_a_filesystem_of_fsspec_says_it_as_well(repo: vfs.Repository) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fsspec.filesystem("vfs").cat(f"vfs://{repo.path}@v9/a")
    assert any("repo.log()" in note for note in caught.value.__notes__)


def test_what_has_no_call_is_a_command(repo: vfs.Repository) -> None:
    assert hint_text(Hint(Advice.REBUILD_INDEX)).startswith("In a terminal: Run `vfs fsck")


@pytest.mark.parametrize("advice", Advice)
def test_every_advice_is_a_sentence(advice: Advice) -> None:
    class Names(dict[str, str]):
        def __missing__(self, name: str) -> str:
            return f"<{name}>"

    text = hint_text(Hint(advice, Names()))
    assert text.endswith(".")
    assert "{" not in text


def test_an_error_in_the_middle_of_an_iteration_is_worded() -> None:
    @worded
    def numbers() -> Iterator[int]:
        yield 1
        raise VfsError("it ended", hint=Hint(Advice.LIST_TAGS))

    found = numbers()
    assert next(found) == 1
    with pytest.raises(VfsError) as caught:
        next(found)
    assert caught.value.hint == "`repo.tags()` returns the tags."
