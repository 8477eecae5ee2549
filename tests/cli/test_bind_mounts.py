"""Bind mounts of parts of a mount, in this mount namespace and in others: commands act on what is seen there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.shell import Shell, mounted_shell, unshared

pytestmark = pytest.mark.mount

STRANGE = "a b\\040\n#%ü"
"""A name with all that the mount table and a mount's source escape."""


@contextmanager
def bound(source: Path, target: Path) -> Iterator[Path]:
    target.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A mount at `data` of a repository with the branches `main` and `x`, which differ in what is not committed."""
    with mounted_shell(tmp_path) as made:
        data = tmp_path / "data"
        (data / "d" / STRANGE).mkdir(parents=True)
        (data / "d" / STRANGE / "f").write_text("1")
        made("commit", "-m", "first", cwd=data)
        made("branch", "x", cwd=data)
        (data / "on-main").write_text("m")
        (data / "@/branches/x/on-x").write_text("x")
        yield made


def said(shell: Shell, directory: Path) -> tuple[str, list[str], str]:
    """Returns what commands in a directory act on: the branch, its changes, and the directory that `.` is."""
    status = shell.status(cwd=directory)
    listed = shell("ls", "v1", ".", cwd=directory)
    return status["branch"], [each["path"] for each in status["changes"]], listed


@pytest.mark.parametrize(
    ("part", "below"),
    [
        (".", "d"),
        ("d", "."),
        ("d", STRANGE),
        (f"d/{STRANGE}", "."),
        ("@/branches/x", "."),
        ("@/branches/x", f"d/{STRANGE}"),
        ("@/branches/x/d", STRANGE),
        ("@/branches", "x/d"),
        ("@", "branches/x/d"),
        ("@v1", "d"),
        ("@v1/d", STRANGE),
        ("@/branches/x/@v1/d", "."),
    ],
)
def test_a_bind_mount_is_the_place_that_it_shows(shell: Shell, part: str, below: str) -> None:
    data = shell.directory / "data"
    expected = said(shell, data / part / below)
    assert expected[0] == ("x" if "branches" in part + below and "@v1" not in part else "main")
    with ExitStack() as stack:
        once = stack.enter_context(bound(data / part, shell.directory / "a bind\\"))
        twice = stack.enter_context(bound(once / below, shell.directory / "twice"))
        assert said(shell, once / below) == said(shell, twice) == expected
        # Named from elsewhere it is the same branch.
        assert shell.status("--repo", str(twice))["branch"] == expected[0]


def test_what_discards_in_a_bind_mount_of_a_branch_leaves_the_others_alone(shell: Shell) -> None:
    data = shell.directory / "data"
    with bound(data / "@/branches/x", shell.directory / "bind") as bind:
        shell("restore", "--discard", "latest", cwd=bind)
        assert not (bind / "on-x").exists()
        assert (data / "on-main").exists()
        (bind / "more").write_text("x")
        shell("commit", "-m", "on x", cwd=bind)
    assert (data / "@x/more").exists()
    assert not (data / "@main/more").exists()


def test_a_bind_mount_stays_on_its_branch_through_switches_and_renames(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "d/e").mkdir()
    with ExitStack() as stack:
        bind = stack.enter_context(bound(data / "d/e", shell.directory / "bind"))
        (data / "d").rename(data / "renamed")
        expected = ("main", shell.status(cwd=data)["changes"])
        shell("switch", "x", cwd=data)
        status = shell.status(cwd=bind)
        assert (status["branch"], status["changes"]) == expected
        (bind / "new").write_text("m")
        assert (data / "@/branches/main/renamed/e/new").read_text() == "m"
        shell("commit", "-m", "on main", cwd=bind)
        assert (data / "@main/renamed/e/new").read_text() == "m"
        assert shell.status(cwd=data)["branch"] == "x"


def test_a_mount_namespace_that_sees_only_a_part_acts_on_that_part(shell: Shell) -> None:
    """What a container does: a directory of the mount is its `/`-like place, the mount itself is not seen."""
    data, inside = shell.directory / "data", shell.directory / "inside"
    inside.mkdir()
    script = f'mount --bind "{data}/@/branches/x" "{inside}" && umount "{data}" && cd "{inside}" && exec "$@"'
    done = shell.run("commit", "-m", "from inside", before=(*unshared(shell.directory), "sh", "-c", script, "sh"))
    assert done.returncode == 0, done.stderr
    assert (data / "@x/on-x").read_text() == "x"
    assert (data / "on-main").exists()
    assert [each["path"] for each in shell.status(cwd=data)["changes"]] == ["on-main"]


def test_status_distinguishes_bind_mounts_from_dead_mounts(shell: Shell) -> None:
    data = shell.directory / "data"
    with bound(data / "d", shell.directory / "bind") as bind:
        text = shell("status", cwd=data)
        assert f"Mounted at {data}\n" in text
        assert f"Mounted at {bind}, of which it shows d alone\n" in text
        pids = {mount["pid"] for mount in shell.status(cwd=bind)["mounts"]}
        assert len(pids) == 1
        assert None not in pids


def test_an_absolute_path_in_the_mount_is_understood_in_a_bind_mount(shell: Shell) -> None:
    data = shell.directory / "data"
    with bound(data / "@/branches/x/d", shell.directory / "bind") as bind:
        for path in (data / "d" / STRANGE / "f", bind / STRANGE / "f", Path("/d", STRANGE, "f"), Path(STRANGE, "f")):
            assert shell("cat", "v1", str(path), cwd=bind) == "1"


# Repositories that lie in a mount.


@pytest.fixture
def inner(shell: Shell) -> Path:
    """A repository in the mount, with one version."""
    inner = shell.directory / "data/d/inner"
    shell("init", str(inner))
    shell("--repo", str(inner), "import", str(shell.directory / "data/d" / STRANGE), "-m", "inner")
    return inner


def messages(shell: Shell, *words: str, cwd: Path | None = None) -> str:
    return shell(*words, "log", "--json", cwd=cwd)


def test_a_repository_in_a_mount_is_the_one_that_is_named_or_nearer(shell: Shell, inner: Path) -> None:
    data = shell.directory / "data"
    for words, cwd in (
        (["--repo", str(inner)], None),
        (["--repo", "data/d/inner"], None),
        (["--repo", "inner"], data / "d"),
        (["--repo", str(inner / "packs")], None),
        ([], inner),
        ([], inner / "packs"),
        (["--repo", "."], inner),
    ):
        found = messages(shell, *words, cwd=cwd)
        assert "inner" in found, (words, cwd)
        assert "first" not in found, (words, cwd)
    for words, cwd in (
        ([], data / "d"),
        (["--repo", str(data)], inner),
        (["--repo", str(data / "d")], None),
        (["--repo", "repo"], None),
        ([], data),
    ):
        found = messages(shell, *words, cwd=cwd)
        assert "first" in found, (words, cwd)
    shell("--repo", str(inner), "commit", "--allow-empty", "-m", "meant for the inner one")
    assert "meant" not in messages(shell, "--repo", "repo")
    with bound(inner, shell.directory / "bind") as bind:
        assert "meant" in messages(shell, "--repo", str(bind))


def test_a_mount_in_a_mount_and_another_filesystem_in_one_are_nearer(shell: Shell, inner: Path) -> None:
    data = shell.directory / "data"
    (data / "sub").mkdir()
    (data / "disk").mkdir()
    shell("mount", str(inner), "data/sub")
    try:
        assert "inner" in messages(shell, cwd=data / "sub")
        assert "first" not in messages(shell, cwd=data / "sub")
    finally:
        shell("umount", "data/sub")
    subprocess.run(["mount", "-t", "tmpfs", "none", data / "disk"], check=True)
    try:
        shell("init", "data/disk/own")
        assert messages(shell, cwd=data / "disk/own") == ""
        assert shell("--repo", "data/disk/own", "log") == shell("log", cwd=data / "disk/own")
        assert "first" in messages(shell, cwd=data / "disk")
    finally:
        subprocess.run(["umount", data / "disk"], check=True)


def test_a_mount_whose_data_looks_like_a_repository_is_still_the_mount(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "vfs.json").write_text("{}")
    assert "first" in messages(shell, cwd=data)
    assert "first" in messages(shell, "--repo", "data")
    shell("commit", "-m", "second", cwd=data)
    for part in ("@v2", "@/versions/v2"):
        assert "first" in messages(shell, cwd=data / part)
        with bound(data / part, shell.directory / "bind") as bind:
            assert "first" in messages(shell, cwd=bind)
