"""Branches in one mount: several working layers, each with its own changes, all writable at once."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S, Mount, call, mounted
from support.repositories import Repositories
from vfs.control.access import release
from vfs.control.daemon_socket import wait_until_closed
from vfs.control.messages import CommitArgs, SwitchArgs
from vfs.control.services import COMMIT, SWITCH
from vfs.errors import Busy
from vfs.repo.branches import create_branch, list_branches
from vfs.repo.repository import Repository


@pytest.fixture
def path(repositories: Repositories, tmp_path: Path) -> Path:
    """A repository whose branches `main` and `side` are at a version with the file `shared`."""
    repo = repositories.make()
    repo.close()
    with mounted(repo.path, tmp_path / "first") as mount:
        (mount / "d").mkdir()
        (mount / "d/shared").write_text("from v1")
        mount.commit("first")
    branch(repo.path, "side")
    return repo.path


@pytest.fixture
def mount(path: Path, tmp_path: Path) -> Iterator[Mount]:
    with mounted(path, tmp_path / "mnt") as made:
        yield made
    assert "forgot" not in made.log.read_text()
    assert "Traceback" not in made.log.read_text()


def branch(repository: Path, name: str) -> None:
    with Repository.open(repository) as repo:
        create_branch(repo, name, repo.resolve("v1"), author="tester")


def commit_on(repository: Path, name: str) -> int:
    return call(repository, name, COMMIT, CommitArgs("m", "a")).number


def test_branches_are_listed_and_the_one_in_the_root_is_a_link_to_it(mount: Mount) -> None:
    assert os.listdir(mount / "@/branches") == ["main", "side"]
    assert os.readlink(mount / "@/branches/main") == "../.."
    assert (mount / "@/branches/main").samefile(mount.path)
    assert (mount / "@/branches/side").is_dir()
    assert not os.path.lexists(mount / "@/branches/none")


def test_two_branches_are_written_and_committed_side_by_side(mount: Mount) -> None:
    side = mount / "@/branches/side"
    (mount / "d/shared").write_text("main's")
    (side / "d/shared").write_text("side's")
    (side / "new").write_text("n")
    assert (mount / "d/shared").read_text() == "main's"
    assert (side / "d/shared").read_text() == "side's"
    assert not (mount / "new").exists()
    assert commit_on(mount.repository, "side") == commit_on(mount.repository, "main") == 2
    assert (mount / "@v2/d/shared").read_text() == "main's"
    assert (side / "@v2/d/shared").read_text() == "side's"
    assert (mount / "@side/d/shared").read_text() == "side's"
    assert (side / "@main/d/shared").read_text() == "main's"


def test_names_of_versions_lead_to_the_one_directory_that_a_version_has(mount: Mount) -> None:
    side = mount / "@/branches/side"
    (side / "d/shared").write_text("side's")
    commit_on(mount.repository, "side")
    with Repository.open(mount.repository) as repo:
        digits = repo.resolve("side").id.hex()
    assert os.readlink(side / "@v1") == "../../../@v1"
    assert os.readlink(side / "d/@v1") == "../../../../@v1/d"
    assert os.readlink(side / "@v2") == os.readlink(side / "@latest") == f"../../../@{digits}"
    assert (side / "d/@v2/shared").read_text() == "side's"
    assert (side / "d/@v2").samefile(mount / "@side/d")
    with pytest.raises(PermissionError):
        (side / "@mine").mkdir()
    with pytest.raises(FileNotFoundError):
        os.stat(side / "@v3")


def test_nothing_moves_or_links_across_branches(mount: Mount) -> None:
    side = mount / "@/branches/side"
    for change in (os.rename, os.link):
        with pytest.raises(OSError, match=r"\w") as caught:
            change(mount / "d/shared", side / "here")
        assert caught.value.errno == errno.EXDEV
    subprocess.run(["mv", mount / "d/shared", side / "here"], check=True)
    assert (side / "here").read_text() == "from v1"
    assert not (mount / "d/shared").exists()


def test_no_two_files_of_two_branches_have_one_number_and_numbers_stay(path: Path, tmp_path: Path) -> None:
    def numbers(mount: Mount) -> dict[str, int]:
        found = {}
        for name in ("main", "side"):
            top = mount / "@/branches" / name
            for where, directories, files in os.walk(top):
                for each in (*directories, *files, "."):
                    if where == str(top) and each == "@":
                        continue
                    key = os.path.join(name, os.path.relpath(where, top), each)
                    found[key] = os.stat(os.path.join(where, each)).st_ino
        return found

    with mounted(path, tmp_path / "mnt") as mount:
        (mount / "new").write_text("m")
        (mount / "@/branches/side/new").write_text("s")
        first = numbers(mount)
        files = {name: number for name, number in first.items() if not name.endswith("/.")}
        assert len(set(files.values())) == len(files) == 6
    with mounted(path, tmp_path / "mnt") as mount:
        assert numbers(mount) == first
    # In the root or below `@/branches`: a file's number is its own.
    with mounted(path, tmp_path / "mnt", "branch=side") as mount:
        again = numbers(mount)
        assert {name: again[name] for name in files} == files


def test_a_mount_of_one_branch_shows_it_and_two_mounts_stand_side_by_side(path: Path, tmp_path: Path) -> None:
    with mounted(path, tmp_path / "a", "branch=main") as one, mounted(path, tmp_path / "b", "branch=side") as two:
        (one / "f").write_text("main's")
        (two / "f").write_text("side's")
        assert os.readlink(two / "@/branches/side") == "../.."
        # Each daemon has its branch: the other one cannot open it, and says so.
        for mount, name in ((one, "side"), (two, "main")):
            with pytest.raises(OSError, match=r"\w") as caught:
                os.listdir(mount / "@/branches" / name)
            assert caught.value.errno == errno.EBUSY
            assert "in use by another mount or command" in mount.log.read_text()
        assert commit_on(path, "main") == commit_on(path, "side") == 2
        assert (one / "f").read_text() == "main's"
        assert (one / "@side/f").read_text() == "side's"


def test_uncommitted_changes_of_every_branch_survive_a_killed_daemon(path: Path, tmp_path: Path) -> None:
    with mounted(path, tmp_path / "mnt") as mount:
        (mount / "f").write_text("main's")
        (mount / "@/branches/side/f").write_text("side's")
        switch(mount, "side")
        (mount / "g").write_text("side's after the switch")
        (mount / "@/branches/main/g").write_text("main's after the switch")
        mount.process.kill()
        mount.process.wait()
    with mounted(path, tmp_path / "mnt") as mount:
        for top, name in ((mount.path, "side"), (mount / "@/branches/main", "main")):
            assert (top / "f").read_text() == f"{name}'s"
            assert (top / "g").read_text() == f"{name}'s after the switch"
        assert "side: the last use did not end cleanly" in mount.log.read_text()


def test_pages_of_a_mapping_are_in_the_version_of_their_branch(mount: Mount) -> None:
    side = mount / "@/branches/side"
    (side / "mapped").write_bytes(b"-" * 8192)
    with open(side / "mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[5000:5004] = b"here"
        commit_on(mount.repository, "side")
        assert (side / "@v2/mapped").read_bytes()[5000:5004] == b"here"


def test_a_file_stays_open_and_readable_when_its_name_is_gone(mount: Mount) -> None:
    side = mount / "@/branches/side"
    with open(side / "gone", "w+b") as file:
        file.write(b"kept")
        file.flush()
        os.unlink(side / "gone")
        assert os.pread(file.fileno(), 4, 0) == b"kept"
        os.fsync(file.fileno())


def test_hundreds_of_branches_are_listed_without_opening_one(path: Path, tmp_path: Path) -> None:
    for number in range(300):
        branch(path, f"b{number}")
    with mounted(path, tmp_path / "mnt") as mount:
        shown = os.listdir(mount / "@/branches")
        assert len(shown) == 302
        for name in shown:
            assert os.stat(mount / "@/branches" / name).st_nlink == 1
        with Repository.open(path) as repo:
            assert len(list_branches(repo)) == 302
        assert sorted(os.listdir(path / "work")) == ["main"]
        (mount / "@/branches/b7/f").write_text("b7's")
        assert sorted(os.listdir(path / "work")) == ["b7", "main"]


def test_a_branch_that_the_kernel_forgets_is_closed_and_opened_again(mount: Mount) -> None:
    (mount / "@/branches/side/f").write_text("side's")
    with Repository.open(mount.repository) as repo, pytest.raises(Busy):
        repo.open_overlay("side")
    mount.drop_kernel_caches()
    assert wait_until_closed(mount.repository, "side", TIMEOUT_S)
    with Repository.open(mount.repository) as repo, repo.open_overlay("side") as overlay:
        assert overlay.find(b"f") is not None
    assert (mount / "@/branches/side/f").read_text() == "side's"


def test_a_branch_made_or_removed_meanwhile_is_seen_at_once(mount: Mount) -> None:
    assert not os.path.lexists(mount / "@/branches/later")
    branch(mount.repository, "later")
    assert os.listdir(mount / "@/branches") == ["later", "main", "side"]
    assert (mount / "@/branches/later/d/shared").read_text() == "from v1"


def test_a_read_only_mount_shows_other_branches_as_their_newest_versions(path: Path, tmp_path: Path) -> None:
    with mounted(path, tmp_path / "mnt", "read_only") as mount:
        assert os.readlink(mount / "@/branches/main") == "../.."
        assert os.readlink(mount / "@/branches/side") == "../../@v1"
        assert (mount / "@/branches/side/d/shared").read_text() == "from v1"


def switch(mount: Mount, name: str) -> None:
    """Does what `vfs switch` does beside a mount."""
    with Repository.open(mount.repository) as repo:
        current = repo.current_branch
    mount.call(SWITCH, SwitchArgs(name, "tester"), branch=current)


def test_a_switch_shows_the_other_branch_and_each_keeps_its_changes(mount: Mount) -> None:
    side = mount / "@/branches/side"
    (mount / "only-main").write_text("m")
    (side / "only-side").write_text("s")
    (side / "d/shared").write_text("side's")
    # What the kernel remembers of the root: names that are there, names that are not.
    assert (mount / "only-main").exists()
    assert not (mount / "only-side").exists()
    assert (mount / "d/shared").read_text() == "from v1"
    for name, there, absent, shared in (
        ("side", "only-side", "only-main", "side's"),
        ("main", "only-main", "only-side", "from v1"),
        ("side", "only-side", "only-main", "side's"),
    ):
        switch(mount, name)
        other = "main" if name == "side" else "side"
        assert (mount / there).exists()
        assert not (mount / absent).exists()
        assert (mount / "d/shared").read_text() == shared
        assert sorted(os.listdir(mount.path)) == sorted(["d", there])
        assert os.readlink(mount / "@/branches" / name) == "../.."
        assert (mount / "@/branches" / other / absent).exists()
    with Repository.open(mount.repository) as repo:
        assert repo.current_branch == "side"


def test_open_files_and_directories_stay_on_their_branch_through_a_switch(mount: Mount) -> None:
    (mount / "d/log").write_text("one\n")
    with open(mount / "d/log", "a") as file, open(mount / "d/shared") as reading:
        number = os.fstat(file.fileno()).st_ino
        directory = os.open(mount / "d", os.O_RDONLY)
        switch(mount, "side")
        file.write("two\n")
        file.flush()
        assert reading.read() == "from v1"
        assert "log" in os.listdir(directory)
        made = os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
        os.close(made)
        os.close(directory)
    main = mount / "@/branches/main"
    assert (main / "d/log").read_text() == "one\ntwo\n"
    assert (main / "d/log").stat().st_ino == number
    assert (main / "d/made").exists()
    assert not (mount / "d/log").exists()
    assert not (mount / "d/made").exists()


def test_version_numbers_are_the_branchs_in_the_root_after_a_switch(mount: Mount) -> None:
    side = mount / "@/branches/side"
    (mount / "d/shared").write_text("main's v2")
    (side / "d/shared").write_text("side's v2")
    commit_on(mount.repository, "main")
    commit_on(mount.repository, "side")
    assert (mount / "@v2/d/shared").read_text() == "main's v2"
    assert (mount / "d/@v2/shared").read_text() == "main's v2"
    assert (mount / "@/versions/v2/d/shared").read_text() == "main's v2"
    assert (mount / "@v1..@v2/modified/d/shared").read_text() == "main's v2"
    switch(mount, "side")
    assert (mount / "@v2/d/shared").read_text() == "side's v2"
    assert (mount / "d/@v2/shared").read_text() == "side's v2"
    assert (mount / "@/versions/v2/d/shared").read_text() == "side's v2"
    assert (mount / "@v1..@v2/modified/d/shared").read_text() == "side's v2"
    assert (mount / "@/branches/main/d/@v2/shared").read_text() == "main's v2"
    assert (mount / "@main/d/shared").read_text() == "main's v2"


def test_a_switch_to_a_branch_that_another_mount_has_is_refused_and_nothing_changes(path: Path, tmp_path: Path) -> None:
    with mounted(path, tmp_path / "mnt") as mount, mounted(path, tmp_path / "other", "branch=side"):
        with pytest.raises(Busy):
            switch(mount, "side")
        with Repository.open(path) as repo:
            assert repo.current_branch == "main"
        assert os.readlink(mount / "@/branches/main") == "../.."


def test_a_mount_of_one_branch_stays_there_when_another_becomes_the_current_one(path: Path, tmp_path: Path) -> None:
    with mounted(path, tmp_path / "mnt", "branch=main") as mount:
        switch(mount, "side")
        assert os.readlink(mount / "@/branches/main") == "../.."
        with Repository.open(path) as repo:
            assert repo.current_branch == "side"


def test_commits_and_shared_mappings_go_to_their_branches_across_switches(mount: Mount) -> None:
    (mount / "mapped").write_bytes(b"-" * 4096)
    with open(mount / "mapped", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        switch(mount, "side")
        mapping[0:4] = b"late"
        (mount / "s").write_text("s")
        assert commit_on(mount.repository, "side") == commit_on(mount.repository, "main") == 2
    assert (mount / "@main/mapped").read_bytes()[:4] == b"late"
    assert (mount / "@v2/s").read_text() == "s"
    assert not (mount / "@v2/mapped").exists()


def test_an_unused_branch_is_released_for_another_mount(mount: Mount, tmp_path: Path) -> None:
    (mount / "@/branches/side/f").write_text("side's")
    release(mount.repository, "side", TIMEOUT_S)
    with mounted(mount.repository, tmp_path / "other", "branch=side") as other:
        assert (other / "f").read_text() == "side's"
    with pytest.raises(Busy, match="mounted at"):
        release(mount.repository, "main", TIMEOUT_S)
