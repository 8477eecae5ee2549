"""The command line as a whole: help, misuse, errors, imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from vfs.cli.command import VfsCommand
from vfs.cli.command_suggestions import _MEANT, _OPTIONS, meant_command
from vfs.cli.command_table import COMMANDS, GROUPS
from vfs.cli.documentation.reference import reference
from vfs.cli.main import cli, main

ROOT = Path(__file__).resolve().parents[2]


def command_of(name: str) -> VfsCommand:
    command = cli.get_command(click.Context(cli), name)
    assert isinstance(command, VfsCommand)
    return command


@pytest.mark.parametrize("name", [entry.name for _, entries in GROUPS for entry in entries])
def test_every_command_has_examples_and_says_what_its_table_says(name: str) -> None:
    command = command_of(name)
    assert all(line.startswith(f"vfs {name}") or f" {name} " in line for line in command.examples)
    assert command.examples
    summary = COMMANDS[name].summary
    assert (command.help or "").startswith(summary.rstrip(".")), (summary, command.help)


@pytest.mark.parametrize("name", [entry.name for _, entries in GROUPS for entry in entries])
def test_help_of_every_command_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: vfs {name}" in capsys.readouterr().out


def test_reference_page_is_what_the_parser_says() -> None:
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference()


@pytest.mark.parametrize("words", [["nonsense"], ["--nonsense"], ["cat", "v1"], ["log", "-n", "none"], ["mount"]])
def test_misuse_exits_with_2_and_points_at_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("vfs: ")
    assert "--help" in captured.err
    assert captured.out == ""


def test_missing_repository_is_an_error_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--repo", str(tmp_path / "absent"), "log"]) == 3
    message, hint = capsys.readouterr().err.splitlines()
    assert message == f"vfs: no repository at {tmp_path / 'absent'}: nothing is there"
    assert "vfs init" in hint


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vfs ")


def test_reader_that_stops_reading_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m vfs --help | true; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("comit", "commit"),
        ("statsu", "status"),
        ("unmuont", "umount"),
        ("Log", "log"),
        ("checkout", "vfs switch"),
        ("chekout", "vfs switch"),
        ("add", "Nothing has to be added"),
        ("rm", "vfs purge"),
        ("mv", "Rename it in the mount"),
        ("reset", "vfs undo"),
        ("revert", "vfs restore"),
        ("stash", "uncommitted changes"),
        ("rebase", "vfs merge"),
        ("config", "VFS_AUTHOR"),
    ],
)
def test_a_command_of_another_tool_gets_the_name_of_ours(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err.splitlines()[1]


def test_hints_for_other_tools_name_existing_commands() -> None:
    sentences = [meant_command(word, COMMANDS) for word in _MEANT] + list(_OPTIONS.values())
    named = {word for sentence in sentences for word in re.findall(r"`vfs ([a-z]+)", sentence)}
    assert named <= set(COMMANDS)
    assert not set(_MEANT) & set(COMMANDS)
    assert {command for command, _ in _OPTIONS} <= set(COMMANDS)


def test_an_option_of_another_tool_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["commit", "-am", "all"]) == 2
    assert "All changes are taken without it." in capsys.readouterr().err


def test_no_command_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for words in ([], ["help"], ["--repo", "/nowhere"]):
        assert main(words) == 0
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == (text, "")


@pytest.mark.parametrize("name", ["gc", "import"])
def test_help_of_a_verb_is_what_its_option_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == text
    assert main(["help", "checkout"]) == 2
    assert "vfs switch" in capsys.readouterr().err
