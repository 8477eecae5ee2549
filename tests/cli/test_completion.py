"""What a shell proposes for a word, what each shell gets to know it, and the manual pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.lines import put
from vfs.cli.arguments.completion_scripts import SHELLS
from vfs.cli.command_table import COMMANDS
from vfs.cli.documentation.manpages import pages
from vfs.cli.main import main
from vfs.repo.commit import commit
from vfs.repo.repository import Repository

Propose = Callable[[str], list[str]]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two versions, a tag, a branch and a remote; it is the current directory."""
    monkeypatch.setenv("VFS_AUTHOR", "ann@lab")
    data, repo = tmp_path / "data", tmp_path / "repo"
    (data / "train").mkdir(parents=True)
    (data / "train/a b.csv").write_bytes(b"1")
    assert main(["init", str(repo)]) == 0
    assert main(["-R", str(repo), "import", str(data), "-m", "first: one"]) == 0
    (data / "more").write_bytes(b"2")
    (data / os.fsdecode(b"not\xff")).write_bytes(b"2")
    assert main(["-R", str(repo), "import", str(data), "-m", "second"]) == 0
    for words in (["tag", "paper", "v1"], ["branch", "dev"], ["remote", "add", "disk", str(tmp_path / "remote")]):
        assert main(["-R", str(repo), *words]) == 0
    monkeypatch.chdir(repo)
    return repo


@pytest.fixture
def propose(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Propose:
    """Returns a function that asks as bash does for the last word of a command line."""

    def ask(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv("_VFS_COMPLETE", "bash_complete")
        capsys.readouterr()
        assert main([]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split("\n")[:-1] if captured.out.strip() else []

    return ask


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("vfs swi", ["plain,switch"]),
        ("vfs help swi", ["plain,switch"]),
        ("vfs show --bra", ["plain,--branch"]),
        ("vfs show v", ["plain,v2", "plain,v1"]),
        ("vfs show l", ["plain,latest"]),
        ("vfs export pa", ["plain,paper"]),
        ("vfs switch ", ["plain,dev", "plain,main"]),
        ("vfs log -b d", ["plain,dev"]),
        ("vfs log --branch=d", ["plain,dev"]),
        ("vfs tag ", ["plain,paper"]),
        ("vfs fetch ", ["plain,disk"]),
        (
            "vfs ls v1 ",
            ["plain,v2", "plain,v1", "plain,latest", "plain,paper", "plain,dev", "plain,main", "path,train/"],
        ),
        ("vfs ls v1 mo", []),
        ("vfs ls mo", ["path,more"]),
        ("vfs cat train/", ["path,train/a b.csv"]),
        ("vfs cat /tr", ["path,/train/"]),
        ("vfs cat nothing/", []),
        ("vfs cat ../", []),
        ("vfs mount ", ["dir,"]),
        ("vfs init ", ["dir,"]),
        ("vfs -R /nowhere show ", []),
        ("vfs nothing ", []),
        ("vfs log --since ", []),
    ],
)
def test_words_are_proposed(propose: Propose, line: str, proposed: list[str]) -> None:
    assert propose(line) == proposed


def test_a_name_that_the_protocol_cannot_carry_is_left_out(propose: Propose) -> None:
    assert [each for each in propose("vfs cat ") if each.startswith("path")] == ["path,more", "path,train/"]


def test_only_the_newest_of_many_versions_are_proposed(propose: Propose, repository: Path) -> None:
    with Repository.open(repository) as repo, repo.open_overlay("main") as overlay:
        for number in range(205):
            put(overlay, b"more", b"%d" % number)
            commit(repo, overlay, "again", "ann@lab")
    found = propose("vfs show v")
    assert (len(found), found[0]) == (200, "plain,v207")
    assert "plain,v19" in propose("vfs show v19")


def test_bash_itself_completes_a_path_with_a_blank(repository: Path) -> None:
    program = Path(sys.executable).with_name("vfs")
    done = subprocess.run(
        ["bash", "--norc", "-c", _BASH],
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "train/a b.csv\n"


_BASH = """
. <(vfs completion bash)
compopt() { :; }
COMP_WORDS=(vfs cat train/) COMP_CWORD=2
_vfs_completion vfs
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_installed_where_the_shell_looks(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert main(["completion"]) == 0
    script = capsys.readouterr().out
    for _ in range(2):
        assert main(["completion", "--install"]) == 0
    (made,) = [path for path in tmp_path.rglob("*vfs*") if path.is_file()]
    assert made.read_text() == script
    assert "_VFS_COMPLETE" in script


def test_a_shell_without_completion_is_misuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert main(["completion"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


def test_every_command_has_a_manual_page_that_the_formatter_reads_without_a_warning() -> None:
    made = pages()
    assert set(made) == {"vfs.1", *(f"vfs-{name}.1" for name in COMMANDS)}
    groff = shutil.which("groff")
    assert groff is not None
    everything = "".join(made.values())
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-Kutf8", "-ww"], input=everything, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "Compare two versions, or a version and the working layer." in " ".join(done.stdout.split())
