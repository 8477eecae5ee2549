"""Commands beside and inside a live mount: the whole program, as a person runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.plain_trees import change_some, describe, make_everything
from support.shell import Shell, mounted_shell

pytestmark = pytest.mark.mount


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A directory with the repository `repo`, mounted at `data`; checked with fsck at the end."""
    with mounted_shell(tmp_path) as made:
        yield made


def test_mount_says_what_to_try_next(shell: Shell) -> None:
    shell("umount", "data")
    text = shell("mount", "repo", "data")
    assert text.startswith("Mounted ")
    assert "vfs commit -m" in text
    assert "vfs umount data" in text


def test_a_mount_with_a_small_cache_reads_what_a_large_one_does(shell: Shell) -> None:
    data = shell.directory / "data"
    contents = {name: os.urandom(3 << 20) + b"text, 12.5\n" * 300_000 for name in ("a", "b", "c")}
    for name, content in contents.items():
        (data / name).write_bytes(content)
    shell("commit", "-m", "one", cwd=data)
    shell("umount", "data")
    shell("mount", "--cache", "4", "repo", "data")
    for version in ("@v1", "."):
        assert {name: (data / version / name).read_bytes() for name in contents} == contents
    shell("umount", "data")
    refused = shell.run("mount", "--cache", "3", "repo", "data")
    assert refused.returncode == 2
    assert "--cache" in refused.stderr


def mount_without_takeover(shell: Shell) -> None:
    """Mounts again such that the mount is dead when its daemon is killed."""
    shell("umount", "data")
    shell("mount", "--no-takeover", "repo", "data")


def test_a_mount_goes_on_after_its_daemon_was_killed(shell: Shell) -> None:
    data = shell.directory / "data"
    with open(data / "kept", "wb", buffering=0) as file:
        file.write(b"1")
        before = daemon_of(shell)
        os.kill(before, signal.SIGKILL)
        file.write(b"2")
        assert (data / "kept").read_bytes() == b"12"
    assert daemon_of(shell) != before
    shell("commit", "-m", "one", cwd=data)
    shell("umount", "data")
    assert shell("--repo", "repo", "cat", "v1", "kept") == "12"


def test_mount_says_what_recovery_did_if_the_last_one_was_killed(shell: Shell) -> None:
    mount_without_takeover(shell)
    (shell.directory / "data" / "kept").write_bytes(b"1")
    os.kill(daemon_of(shell), signal.SIGKILL)
    again = shell.run("mount", "repo", "data")
    assert again.returncode == 0
    assert re.search(r"did not end cleanly: recovered \d+ records", again.stderr)
    assert (shell.directory / "data" / "kept").read_bytes() == b"1"
    shell("umount", "data")
    assert shell.run("mount", "repo", "data").stderr == ""


def test_story_of_the_product_page(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "images").mkdir()
    (data / "images" / "1.png").write_bytes(b"1" * 5000)
    (data / "labels.csv").write_bytes(b"1.png,cta\n")
    assert re.fullmatch(r"v1 [0-9a-f]{8}\n", shell("commit", "-m", "first import", cwd=data / "images"))
    (data / "labels.csv").write_bytes(b"1.png,cat\n")
    (status,) = map(json.loads, shell("status", "--json", cwd=data).splitlines())
    assert [(each["path"], each["change"]) for each in status["changes"]] == [("labels.csv", "modified")]
    assert status["clean"] is False
    assert re.fullmatch(r"v2 [0-9a-f]{8}\n", shell("--repo", "repo", "commit", "-m", "repaired"))
    assert "Nothing to commit" in shell("status", cwd=data)
    assert (data / "@v1" / "labels.csv").read_bytes() == b"1.png,cta\n"
    assert (data / "@v2" / "labels.csv").read_bytes() == b"1.png,cat\n"
    shell("restore", "v1", "labels.csv", cwd=data)
    assert (data / "labels.csv").read_bytes() == b"1.png,cta\n"
    shell("diff", status=1, cwd=data)


def test_relative_paths_start_where_one_is_in_the_mount(shell: Shell) -> None:
    images = shell.directory / "data" / "images"
    images.mkdir()
    (images / "1.png").write_bytes(b"picture")
    shell("commit", "-m", "first", cwd=images)
    assert shell("cat", "v1", "1.png", cwd=images) == "picture"
    assert shell("cat", "v1", "1.png", cwd=images.parent / "@v1" / "images") == "picture"
    assert shell("ls", "v1", ".", cwd=images) == "1.png\n"
    assert shell("ls", "v1", "/", cwd=images) == "images/\n"
    (images / "1.png").unlink()
    shell("restore", "latest", "1.png", cwd=images)
    assert (images / "1.png").read_bytes() == b"picture"


def test_import_while_mounted_appears_in_the_mount(shell: Shell) -> None:
    source = shell.directory / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1")
    shell("--repo", "repo", "import", "source", "-m", "imported")
    data = shell.directory / "data"
    assert (data / "a").read_bytes() == b"1"
    assert (data / "@v1" / "a").read_bytes() == b"1"
    (data / "b").write_bytes(b"2")
    (source / "a").write_bytes(b"3")
    refused = shell.run("--repo", "repo", "import", "source", "-m", "again")
    assert refused.returncode == 4
    assert "uncommitted" in refused.stderr
    assert (data / "b").read_bytes() == b"2"


def test_uncommitted_changes_survive_unmounting_and_are_committed_without_a_mount(shell: Shell) -> None:
    (shell.directory / "data" / "a").write_bytes(b"1")
    shell("umount", "data")
    assert "A  a" in shell("--repo", "repo", "status")
    shell("--repo", "repo", "commit", "-m", "not mounted")
    assert shell("--repo", "repo", "cat", "v1", "a") == "1"


def test_busy_mount_is_not_ended_and_its_holder_is_named(shell: Shell) -> None:
    data = shell.directory / "data"
    with subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True); input()"],
        cwd=data,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        refused = shell.run("umount", "data")
        process.communicate("\n")
    assert refused.returncode == 4
    assert f"({process.pid}): its current directory is {data}" in refused.stderr
    shell("umount", "data")
    assert not os.path.ismount(data)


def test_umount_of_a_path_without_a_mount_is_an_error(shell: Shell) -> None:
    refused = shell.run("umount", "repo")
    assert refused.returncode == 3
    assert "Mounted are" in refused.stderr


def test_commands_work_after_a_daemon_died(shell: Shell) -> None:
    mount_without_takeover(shell)
    data = shell.directory / "data"
    (data / "a").write_bytes(b"1")
    (log,) = (shell.directory / "repo" / "run").glob("*.log")
    assert log.stat().st_size
    pid = daemon_of(shell)
    os.kill(pid, signal.SIGKILL)
    shell.run("umount", "data")
    done = shell.run("--repo", "repo", "commit", "-m", "after the crash")
    assert done.returncode == 0, done.stderr
    assert "the mount's daemon was killed" in done.stderr
    assert shell("--repo", "repo", "cat", "v1", "a") == "1"
    shell("mount", "repo", "data")
    assert (data / "@v1" / "a").read_bytes() == b"1"


def daemon_of(shell: Shell) -> int:
    (status,) = map(json.loads, shell("--repo", "repo", "status", "--json").splitlines())
    (mount,) = status["mounts"]
    assert mount["path"] == str(shell.directory / "data")
    return int(mount["pid"])


def test_editing_in_place_keeps_the_mode(shell: Shell) -> None:
    file = shell.directory / "data" / "labels.csv"
    file.write_bytes(b"1.png,cta\n")
    file.chmod(0o644)
    subprocess.run(["sed", "-i", "s/cta/cat/", file], check=True)
    assert file.read_bytes() == b"1.png,cat\n"
    assert file.stat().st_mode & 0o7777 == 0o644
    assert os.listxattr(file) == []


def test_read_only_mounts_stand_beside_and_a_dead_socket_is_warned_of_once(shell: Shell) -> None:
    mount_without_takeover(shell)
    (shell.directory / "data" / "a").write_bytes(b"1")
    shell("--repo", "repo", "commit", "-m", "first")
    second = shell.directory / "second"
    second.mkdir()
    shell("mount", "--read-only", "repo", "second")
    try:
        assert f"Mounted at {second} (read-only)" in shell("status", cwd=second)
        assert (second / "@v1" / "a").read_bytes() == b"1"
    finally:
        shell("umount", "second")
    os.kill(daemon_of(shell), signal.SIGKILL)
    shell.run("umount", "data")
    assert "the mount's daemon was killed" in shell.run("--repo", "repo", "status").stderr
    assert shell.run("--repo", "repo", "status").stderr == ""


def test_foreground_mount_ends_at_the_first_signal_and_removes_itself(shell: Shell) -> None:
    shell("umount", "data")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "vfs", "mount", "--foreground", "repo", "data"],
        cwd=shell.directory,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Mounted at data.\n"
        (shell.directory / "data" / "a").write_bytes(b"1")
        process.send_signal(signal.SIGTERM)
        _, words = process.communicate()
    assert process.returncode == 0, words
    assert not os.path.ismount(shell.directory / "data")
    assert "A  a" in shell("--repo", "repo", "status")


def test_the_inside_of_uncommitted_files_is_compared_through_the_live_mount(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "labels.csv").write_bytes(b"file,label\n1.png,cat\n2.png,cta\n")
    shell("commit", "-m", "first", cwd=data)
    (data / "labels.csv").write_bytes(b"file,label\n1.png,cat\n2.png,cat\n")
    assert shell("diff", cwd=data, status=1).splitlines()[-1] == "  ~ 2.png: label cta → cat"
    shell("branch", "dev", cwd=data)
    (data / "@/branches/dev/labels.csv").write_bytes(b"file,label\n1.png,dog\n2.png,cta\n")
    for words in (["--branch", "dev"], ["--branch", "dev", "v1"]):
        assert shell("diff", *words, cwd=data, status=1).splitlines()[-1] == "  ~ 1.png: label cat → dog"
    shell("umount", "data")
    assert shell("--repo", "repo", "diff", status=1).splitlines()[-1] == "  ~ 2.png: label cta → cat"
    shell("mount", "repo", "data")


def test_commands_act_on_the_branch_whose_directory_they_run_in(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "d").mkdir()
    (data / "d" / "f").write_text("one")
    shell("commit", "-m", "first", cwd=data)
    shell("branch", "side", cwd=data)
    side = data / "@" / "branches" / "side"
    (side / "d" / "f").write_text("side's")
    told = json.loads(shell("status", "--json", cwd=side / "d"))
    assert (told["branch"], [change["path"] for change in told["changes"]]) == ("side", ["d/f"])
    assert told["mounts"][0]["pid"] is not None
    assert json.loads(shell("status", "--json", cwd=data))["clean"] is True
    assert shell("commit", "-m", "second", cwd=side / "d").startswith("v2 ")
    assert len(shell("log", cwd=side).splitlines()) == 2
    assert len(shell("log", cwd=data).splitlines()) == 1
    assert len(shell("log", "--branch", "side", cwd=data).splitlines()) == 2
    shell("restore", "v1", "f", cwd=side / "d")
    assert (side / "d" / "f").read_text() == "one"
    assert (data / "d" / "f").read_text() == "one"
    assert shell("diff", "main", "side", "--name-only", cwd=data, status=1).strip() == "d/f"


def test_switch_in_a_mount_and_between_mounts(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "f").write_text("one")
    shell("commit", "-m", "first", cwd=data)
    shell("branch", "side", cwd=data)
    (data / "draft").write_text("main's")
    assert shell("switch", "side", cwd=data).startswith("The current branch is side: v1 ")
    assert os.listdir(data) == ["f"]
    (data / "f").write_text("side's")
    assert shell("commit", "-m", "on side", cwd=data).startswith("v2 ")
    shell("switch", "main", cwd=data / "@v1")
    assert sorted(os.listdir(data)) == ["draft", "f"]
    assert (data / "f").read_text() == "one"
    assert shell("commit", "-m", "on main", cwd=data).startswith("v2 ")
    shell("switch", "side", cwd=data)
    assert shell("undo", cwd=data).startswith("Undone: ")
    assert (data / "f").read_text() == "one"
    shell("undo", cwd=data)
    assert (data / "f").read_text() == "side's"
    shell("branch", "third", cwd=data)
    assert os.listdir(data / "@" / "branches" / "third") == ["f"]
    shell("undo", cwd=data)
    assert sorted(os.listdir(data / "@" / "branches")) == ["main", "side"]
    shell("umount", "data")
    shell("mount", "repo", "data")
    assert (data / "f").read_text() == "side's"
    shell("umount", "data")


def test_a_branch_mounted_alone_beside_the_current_one(shell: Shell) -> None:
    data, other = shell.directory / "data", shell.directory / "other"
    other.mkdir()
    (data / "f").write_text("one")
    shell("commit", "-m", "first", cwd=data)
    shell("branch", "side", cwd=data)
    # Looking into a branch does not keep it from a mount of its own.
    assert os.listdir(data / "@" / "branches" / "side") == ["f"]
    shell("mount", "--branch", "side", "repo", "other")
    try:
        (other / "f").write_text("side's")
        assert json.loads(shell("status", "--json", cwd=other))["branch"] == "side"
        for here in (shell.directory, data, data / "@v1"):
            for named, branch in (("other", "side"), ("data", "main"), ("data/@/branches/side", "side")):
                told = shell("--repo", str(shell.directory / named), "status", "--json", cwd=here)
                assert json.loads(told)["branch"] == branch
        assert json.loads(shell("--repo", "../data", "status", "--json", cwd=other))["branch"] == "main"
        assert shell("commit", "-m", "second", cwd=other).startswith("v2 ")
        assert "mounted at" in shell.run("branch", "--delete", "--force", "side", cwd=data).stderr
        assert "in use by another mount" in shell.run("switch", "side", cwd=data).stderr
        assert (data / "f").read_text() == "one"
    finally:
        shell("umount", "other")
    shell("branch", "--delete", "--force", "side", cwd=data)
    assert os.listdir(data / "@" / "branches") == ["main"]


def test_a_merge_in_a_mount_is_taken_back_without_a_trace_and_then_finished(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "all").mkdir()
    make_everything(data / "all")
    (data / "t").write_text("base")
    shell("commit", "-m", "first", cwd=data)
    shell("branch", "side", cwd=data)
    side = data / "@" / "branches" / "side"
    change_some(side / "all")
    (side / "t").write_text("theirs")
    shell("commit", "-m", "theirs", cwd=side)
    (data / "t").write_text("ours")
    shell("commit", "-m", "ours", cwd=data)
    before, theirs = describe(data, holes=False), describe(side / "all", holes=False)
    told = shell("merge", "side", cwd=data, status=1).splitlines()
    assert told[0].split()[:2] == ["C", "t"]
    paths = dict(line.split() for line in told[1:])
    assert {name: (data / path).read_text() for name, path in paths.items()} == {
        "base": "base",
        "ours": "ours",
        "theirs": "theirs",
    }
    (data / "t").write_text("half decided")
    (data / "more").mkdir()
    assert describe(data / "all", holes=False) == theirs
    shell("merge", "--abort", cwd=data)
    assert describe(data, holes=False) == before
    assert json.loads(shell("status", "--json", cwd=data))["clean"] is True
    shell("merge", "side", cwd=data, status=1)
    assert shell("merge", "--continue", cwd=data, status=4) == ""
    (data / "t").write_text("both")
    assert re.fullmatch(r"v3 [0-9a-f]{8}\n", shell("merge", "--continue", cwd=data))
    assert (data / "@v3" / "t").read_text() == "both"
    assert describe(data / "@v3" / "all", holes=False) == theirs


def test_a_purge_names_the_mount_that_is_in_its_way(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "secret").write_text("a name")
    old = shell("commit", "-m", "first", cwd=data).split()[1]
    shell("branch", "side", cwd=data)
    assert os.listdir(data / "@" / "branches" / "side") == ["secret"]
    assert shell("purge", "secret", "--dry-run", cwd=data).startswith("Would take secret out of 1 version")
    refused = shell.run("purge", "secret", "--yes", cwd=data)
    assert refused.returncode == 4
    assert f"mounted at {data}" in refused.stderr
    assert (data / "@v1" / "secret").read_text() == "a name"
    shell("umount", "data")
    # A read-only mount blocks no command, and the old id is unknown there now.
    shell("mount", "--read-only", "repo", "data")
    assert (data / f"@{old}" / "secret").read_text() == "a name"
    assert shell("purge", "secret", "--yes", cwd=data).startswith("Took secret out of 1 version")
    assert not (data / f"@{old}").exists()


def test_a_directory_that_a_switch_left_on_its_branch_is_not_taken_for_the_others(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "a" / "b").mkdir(parents=True)
    (data / "a" / "b" / "f").write_text("one")
    shell("commit", "-m", "first", cwd=data)
    shell("branch", "side", cwd=data)
    script = 'cd data/a/b && "$0" -m vfs switch side && "$0" -m vfs status; cd "$PWD" && "$0" -m vfs status'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable],
        cwd=shell.directory,
        env=shell.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("Branch side") == 1
    assert "another branch" in done.stderr
    # What is restored is still the directory that a shell is in.
    script = 'cd data/a && rm b/f && "$0" -m vfs restore latest b && "$0" -m vfs restore v1 b/f && "$0" -m vfs status'
    subprocess.run(["bash", "-c", script, sys.executable], cwd=shell.directory, env=shell.environment, check=True)


def test_status_shows_what_was_renamed(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "d").mkdir()
    (data / "d" / "large").write_bytes(os.urandom(300_000))
    (data / "tiny").write_text("t")
    (data / "changed").write_text("c")
    shell("commit", "-m", "first", cwd=data)
    (data / "d").rename(data / "dd")
    (data / "tiny").rename(data / "dd" / "small")
    (data / "changed").rename(data / "other")
    (data / "other").write_text("changed")
    for mounted in (True, False):
        if not mounted:
            shell("umount", "data")
        lines = [line.split() for line in shell("--repo", "repo", "status").splitlines() if line.startswith("  ")]
        assert ["R", "d/large", "→", "dd/large", "293.0", "KiB"] in lines
        assert ["R", "tiny", "→", "dd/small", "1", "B"] in lines
        assert ["D", "changed", "1", "B"] in lines
        (found,) = [json.loads(line) for line in shell("--repo", "repo", "status", "--json").splitlines()]
        moved = {(change["from"], change["path"]) for change in found["changes"] if change["change"] == "renamed"}
        assert moved == {("d/large", "dd/large"), ("tiny", "dd/small")}


def test_paths_into_a_mount_say_which_version_they_mean(shell: Shell) -> None:
    data = shell.directory / "data"
    (data / "d").mkdir()
    for text in ("one", "two"):
        (data / "d" / "f").write_text(text)
        shell("commit", "-m", text, cwd=data)
    (data / "d" / "new").write_text("n")
    inside, outside = data / "d", shell.directory
    for cwd, word in (
        (data, "@v1/d/f"),
        (inside, "@v1/f"),
        (inside, "../@v1/d/f"),
        (data, "d/@v1/f"),
        (data, str(data / "@v1/d/f")),
        (data, "@/versions/v1/d/f"),
        (data, "@latest~1/d/f"),
    ):
        assert shell("cat", word, cwd=cwd) == "one", (cwd, word)
    for word in ("data/@v1/d/f", str(data / "@v1/d/f"), "v1/d/f"):
        assert shell("--repo", "repo", "cat", word, cwd=outside) == "one", word
    assert shell("--repo", "repo", "cat", "data/d/f", cwd=outside) == "two"
    assert shell("cat", "f", cwd=inside) == "two"
    assert "d/new" in shell("diff", "new", cwd=inside, status=1)
    assert "d/new" in shell("--repo", "repo", "diff", "latest~1", "data/d/new", cwd=outside, status=1)
    assert os.readlink(data / "@latest~1") == "@v1"
    assert (inside / "@v2~1" / "f").read_text() == "one"
    assert (data / "@v2~1..@v2" / "modified" / "d" / "f").read_text() == "two"
