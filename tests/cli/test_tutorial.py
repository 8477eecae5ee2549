"""The tutorial is what happens, and every command that a document shows is one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from vfs.cli.command import Invocation
from vfs.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.mount
@pytest.mark.slow
def test_every_command_of_the_tutorial_prints_what_stands_there() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "tutorial.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<![\w/`.-])vfs ((?:'[^']*'|\"[^\"]*\"|[^&|;#)\n])+)")


def shown_commands(page: Path) -> list[list[str]]:
    """Returns the words behind `vfs` of every command in a page's blocks of code."""
    blocks = "\n".join(_BLOCK.findall(page.read_text(encoding="utf-8")))
    lines = [line for line in blocks.splitlines() if line.startswith(("$ ", "vfs ", "rsync ", "for "))]
    return [shlex.split(words) for line in lines for words in _COMMAND.findall(line.removeprefix("$ "))]


@pytest.mark.parametrize("name", ["README.md", "docs/questions.md", "docs/tutorial.md"])
def test_every_command_of_a_document_can_be_typed(name: str) -> None:
    commands = shown_commands(ROOT / name)
    assert len(commands) >= 3
    for words in commands:
        context = click.Context(cli, info_name="vfs", obj=Invocation())
        if words[0] == "--repo":
            words = words[2:]
        verb, command, rest = cli.resolve_command(context, words)
        assert command is not None
        command.make_context(verb, rest, parent=context)


_INLINE = re.compile(r"`([^`]+)`")
_NAMED = re.compile(r"(?:^|\$ |&& |\| |; |do |IMAGE |=\S*/|-c ')vfs (?:(?:--repo|-R) \S+ )?([a-z]+)([^&|;`]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*|(?<![\w-])-[a-zA-Z]\b")


_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_a_document_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = [*_INLINE.findall(_BLOCK.sub("", text)), *"\n".join(_BLOCK.findall(text)).splitlines()]
    code += [line for line in text.splitlines() if line.startswith("    ")]
    context = click.Context(cli, help_option_names=["-h", "--help"])
    unknown = []
    for name, rest in (found for each in code for found in _NAMED.findall(" ".join(each.split()))):
        command = cli if name == "help" else cli.get_command(context, name)
        if command is None:
            unknown.append(f"vfs {name}")
            continue
        options = {option for each in command.get_params(context) for option in (*each.opts, *each.secondary_opts)}
        # What follows `--` belongs to the program that the command starts.
        shown = _OPTION.findall(rest.split(" -- ")[0].split(" # ")[0])
        unknown += [f"vfs {name} {option}" for option in shown if option not in options]
    assert not unknown


@pytest.mark.mount
def test_the_backup_of_a_mounted_repository_has_every_version(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    (recipe,) = [block for block in _BLOCK.findall(page) if "rsync" in block]
    (leaving,) = [block for block in _BLOCK.findall(page) if "export" in block]
    script = f"""
        set -e
        vfs init repo; mkdir data; vfs mount repo data
        trap 'cd "$PWD"; vfs umount data' EXIT
        for round in 1 2 3; do
            head -c 300000 /dev/urandom > data/file$round; vfs --repo repo commit -m "round $round"
            echo "not committed" > data/later
            {recipe}
        done
        vfs --repo backup log --json
        cmp data/@v3/file3 <(vfs --repo backup cat v3 file3)
        {leaving}
        ls out-v1 out-v2 out-v3
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VFS_AUTHOR": "ann@lab"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"version": "v') == 3
    assert done.stdout.count("All is well") == 3
    assert done.stdout.split("\nout-v3:\n")[1].split()[:3] == ["file1", "file2", "file3"]
