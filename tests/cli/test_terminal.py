"""What a person sees on a terminal: a pager, colour, lists that fit; and nothing that drives it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from support.commands import Run, commands_on
from support.lines import put
from support.terminals import on_terminal
from vfs.cli.main import main
from vfs.cli.terminal.columns import display_width
from vfs.repo.commit import commit
from vfs.repo.repository import Repository

ESCAPE = "\x1b[31m"
FORGED = "ann\nv9  deadbeef  2026-01-01 00:00:00  bob@lab  1 file  1 B  forged"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repo"


@pytest.fixture
def run(repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A repository as older releases could make it: names, authors, messages of all kinds of characters."""
    call = commands_on(repository, capsys, monkeypatch)
    with Repository.open(repository) as repo, repo.open_overlay("main") as overlay:
        put(overlay, f"{ESCAPE}red\n\u202efile".encode(), b"1\n")
        commit(repo, overlay, f"{ESCAPE}message\x07", FORGED, meta=((f"k{ESCAPE}", "v\n\x07"),))
        put(overlay, f"{ESCAPE}red\n\u202efile".encode(), b"2\n")
        commit(repo, overlay, "日本語 " * 40, "a" * 300)
    return call


LOOKS = [
    line.split()
    for line in (
        "log", "log --full", "log --graph", "show", "show v1", "diff v1 v2", "diff v1 --stat", "ls", "ls -l",
        "operations", "stats", "stats --versions", "du --files", "branch", "status",
    )
]  # fmt: skip


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_nothing_that_was_stored_drives_a_terminal(run: Run, words: list[str]) -> None:
    text = run(*words, status=1 if words[0] == "diff" else 0)
    assert not [each for each in text if each != "\n" and not each.isprintable()]
    assert not re.search("^v9 ", text, re.M)


def test_misspelt_arguments_send_no_control_sequences_to_a_terminal(
    repository: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for words in (["show", f"x{ESCAPE}"], [f"x{ESCAPE}"], ["cat", "v1", f"{ESCAPE}"], ["switch", f"{ESCAPE}\u202e"]):
        assert main(["--repo", str(repository), *words]) in (2, 3)
    assert not [each for each in capsys.readouterr().err if each != "\n" and not each.isprintable()]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize(
    "words",
    [["log"], ["log", "--graph"], ["stats", "--versions"], ["operations"], ["branch"], ["tag"], ["du"]],
    ids=" ".join,
)
@pytest.mark.usefixtures("run")
def test_lists_fit_the_terminal(repository: Path, words: list[str], width: int) -> None:
    assert main(["--repo", str(repository), "tag", "paper", "v1"]) == 0
    environment = {"VFS_PAGER": "cat", "NO_COLOR": "1"}
    text, status = on_terminal(
        ["--repo", str(repository), *words], repository.parent, width=width, environment=environment
    )
    assert status == 0
    lines = text.splitlines()
    assert len(lines) >= 1
    assert max(map(display_width, lines)) <= width, text


@pytest.mark.usefixtures("run")
def test_columns_says_how_wide_the_terminal_is(repository: Path) -> None:
    environment = {"VFS_PAGER": "cat", "NO_COLOR": "1", "COLUMNS": "40"}
    text, _ = on_terminal(
        ["--repo", str(repository), "stats", "--versions"], repository.parent, environment=environment
    )
    assert max(map(display_width, text.splitlines())) <= 40


def test_a_pipe_gets_whole_messages(run: Run) -> None:
    assert ("日本語 " * 40).rstrip() in run("log")
    assert "…" in run("log")  # The author's 300 characters, which would move all columns.
    assert "a" * 300 in run("log", "--full")
    assert "a" * 300 in run("log", "--json")


@pytest.mark.usefixtures("run")
def test_a_pager_shows_what_commands_print_with_colour(repository: Path) -> None:
    words = ["--repo", str(repository), "log", "-n", "1"]
    marking = {"VFS_PAGER": "sed s/^/PAGED:/", "PAGER": "false"}
    text, status = on_terminal(words, repository.parent, environment=marking)
    assert (text.startswith("PAGED:\x1b["), status) == (True, 0)
    text, _ = on_terminal(words, repository.parent, environment={"PAGER": "sed s/^/OTHER:/"})
    assert text.startswith("OTHER:")
    for plain in ({"VFS_PAGER": "", "PAGER": "false"}, {"VFS_PAGER": "cat"}, {**marking, "TERM": "dumb"}):
        text, _ = on_terminal(words, repository.parent, environment=plain)
        assert "v2" in text.split("  ")[0]
        assert "PAGED" not in text
    text, _ = on_terminal([*words, "--json"], repository.parent, environment=marking)
    assert text.startswith("{")
    text, _ = on_terminal([*words, "--color=never"], repository.parent, environment=marking)
    assert text.startswith("PAGED:v2")


@pytest.mark.usefixtures("run")
def test_a_pager_keeps_the_exit_status(repository: Path) -> None:
    environment = {"VFS_PAGER": "sed s/^/PAGED:/", "NO_COLOR": "1"}
    text, status = on_terminal(
        ["--repo", str(repository), "diff", "v1", "v2"], repository.parent, environment=environment
    )
    assert (text.startswith("PAGED:M"), status) == (True, 1)


@pytest.mark.usefixtures("run")
def test_an_error_of_a_paged_command_is_shown_and_counts(repository: Path) -> None:
    text, status = on_terminal(
        ["--repo", str(repository), "show", "v77"], repository.parent, environment={"VFS_PAGER": "sed s/^/PAGED:/"}
    )
    assert "there is no version 'v77'" in text
    assert status == 3


def test_a_pager_that_ends_early_is_no_error(repository: Path, run: Run) -> None:
    with Repository.open(repository) as repo, repo.open_overlay("main") as overlay:
        # More than a pipe holds.
        for number in range(600):
            put(overlay, b"many" * 50 + b"-%05d" % number, b"")
        commit(repo, overlay, "many", "ann@lab")
    text, status = on_terminal(
        ["--repo", str(repository), "ls"], repository.parent, environment={"VFS_PAGER": "head -n 2"}
    )
    assert (len(text.splitlines()), status) == (2, 0)


@pytest.mark.usefixtures("run")
def test_a_pager_that_is_not_there_is_said_where_it_was_named(repository: Path) -> None:
    words = ["--repo", str(repository), "log", "--color=never"]
    text, status = on_terminal(words, repository.parent, environment={"VFS_PAGER": "no-such-pager"})
    assert "no-such-pager" in text.splitlines()[0]
    assert ("\nv2  " in text, status) == (True, 0)
    nowhere = {"PATH": os.devnull}
    text, status = on_terminal(words, repository.parent, environment=nowhere)
    assert (text.startswith("v2  "), status) == (True, 0)
