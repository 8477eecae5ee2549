"""Programs that ask much of a filesystem, in a mount: databases, git, tar, rsync, make, what pip does."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from support.mounts import Mount

pytestmark = pytest.mark.mount


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Runs a program with an empty environment but for PATH, and returns what it printed."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "LC_ALL": "C", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_tree(root: Path) -> None:
    """Makes a tree of everything that archives carry."""
    for number in range(12):
        directory = root / f"dir{number % 3}" / f"sub{number}"
        directory.mkdir(parents=True)
        (directory / "small").write_text(f"file {number}\n" * number)
        (directory / "large").write_bytes(os.urandom(20_000 * number))
        os.utime(directory / "small", ns=(1_000_000_000_123_456_789, 1_500_000_000_987_654_321))
    os.link(root / "dir0/sub0/small", root / "dir1/hard link")
    os.symlink("../dir0/sub0/small", root / "dir2/link")
    os.symlink("nowhere", root / "dangling")
    os.mkfifo(root / "fifo")
    os.setxattr(root / "dir1/sub1/small", "user.note", b"kept \0 whole")
    os.setxattr(root / "dir1", "user.directory", b"too")
    # User 123 reads and writes, by an access list; what is made in dir0 inherits that.
    entries = (1, 6, -1), (2, 6, 123), (4, 4, -1), (16, 6, -1), (32, 0, -1)
    access_list = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(root / "dir1/sub4/small", "system.posix_acl_access", access_list)
    os.setxattr(root / "dir0", "system.posix_acl_default", access_list)
    (root / "dir2/sub2/small").chmod(0o4711)
    os.chown(root / "dir2/sub5/small", 123, 456)
    with (root / "sparse").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"end")


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """Returns what must be equal of two copies of a tree."""
    found: dict[str, tuple[object, ...]] = {}
    numbers: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(root))
        first = numbers.setdefault(status.st_ino, name)
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in _user_xattrs(path)}
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, first, attributes, content)
    return found


def _user_xattrs(path: Path) -> list[str]:
    return [
        name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(("user.", "system.posix_acl"))
    ]


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])
@pytest.mark.parametrize("mapped", [0, 1 << 26])
def test_sqlite_keeps_its_promises(journal: str, mapped: int, mount: Mount) -> None:
    path = mount / "base.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as base:
        assert base.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
        base.execute(f"pragma mmap_size={mapped}")
        base.execute("create table items (number integer primary key, data blob)")
        for batch in range(5):
            base.execute("begin")
            rows = ((batch * 200 + n, os.urandom(300)) for n in range(200))
            base.executemany("insert into items values (?, ?)", rows)
            base.execute("commit" if batch != 3 else "rollback")
        base.execute("delete from items where number % 3 = 0")
        base.execute("vacuum")
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(path)) as again:
        assert again.execute("pragma integrity_check").fetchone() == ("ok",)
        assert again.execute("select count(*) from items").fetchone() == (533,)


def test_sqlite_is_used_by_several_at_once(mount: Mount) -> None:
    path = mount / "base.db"
    with closing(sqlite3.connect(path)) as base:
        base.execute("pragma journal_mode=wal")
        base.execute("create table counter (value integer)")
        base.execute("insert into counter values (0)")
        base.commit()
    script = (
        "import sqlite3, sys\n"
        "base = sqlite3.connect(sys.argv[1], timeout=300, isolation_level=None)\n"
        "for _ in range(50):\n"
        "    base.execute('begin immediate')\n"
        "    base.execute('update counter set value = value + 1')\n"
        "    base.execute('commit')\n"
        "base.close()\n"
    )
    threads = [threading.Thread(target=run, args=(sys.executable, "-c", script, path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(sqlite3.connect(path)) as base:
        assert base.execute("select value from counter").fetchone() == (150,)
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)


def test_git_works_in_it_and_on_it(mount: Mount) -> None:
    origin = mount / "origin"
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    run(*git, "init", "-q", "-b", "main", origin)
    for number in range(12):
        directory = origin / f"d{number % 4}"
        directory.mkdir(exist_ok=True)
        (directory / f"f{number}").write_text(f"{number}\n" * (number * 50 + 1))
        (origin / "same").write_text(str(number))
        run(*git, "add", "-A", cwd=origin)
        run(*git, "commit", "-qm", f"commit {number}", cwd=origin)
    assert run(*git, "status", "--porcelain", cwd=origin) == ""
    run(*git, "clone", "-q", "--no-hardlinks", origin, mount / "copy")
    run(*git, "clone", "-q", "--local", origin, mount / "linked")
    run(*git, "checkout", "-q", "-b", "side", "HEAD~6", cwd=mount / "copy")
    run(*git, "rebase", "-q", "main", cwd=mount / "copy")
    run(*git, "gc", "-q", "--prune=now", cwd=mount / "copy")
    for name in ("origin", "copy", "linked"):
        assert "error" not in run(*git, "fsck", "--full", "--strict", cwd=mount / name)
        assert run(*git, "status", "--porcelain", cwd=mount / name) == ""
    mount.commit()
    assert run(*git, "-c", "safe.directory=*", "log", "--oneline", cwd=mount / "@v1/copy").count("\n") == 12


def test_tar_takes_everything_in_and_out(mount: Mount, tmp_path: Path) -> None:
    tree, archive = tmp_path / "tree", tmp_path / "tree.tar"
    make_tree(tree)
    options = ("--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--format=posix", "--sparse")
    run("tar", *options, "-cf", archive, "-C", tree, ".")
    (mount / "out").mkdir()
    run("tar", *options, "-xpf", archive, "-C", mount / "out")
    assert facts(mount / "out") == facts(tree)
    assert (mount / "out/sparse").stat().st_blocks * 512 < 1 << 20
    again = mount / "again.tar"
    run("tar", *options, "-cf", again, "-C", mount / "out", ".")
    (tmp_path / "back").mkdir()
    run("tar", *options, "-xpf", again, "-C", tmp_path / "back")
    assert facts(tmp_path / "back") == facts(tree)
    run("tar", *options, "--compare", "-f", again, "-C", mount / "out")


@pytest.mark.parametrize(
    "extra",
    [
        ("--inplace",),
        ("--append-verify",),
        ("--sparse",),
        ("--whole-file", "--delay-updates"),
        ("--no-whole-file", "--block-size=700", "--fuzzy"),
        ("--preallocate", "--delete-before"),
        ("--partial-dir=.partial", "--delete-delay", "--atimes"),
    ],
)
def test_rsync_makes_equal_copies(extra: tuple[str, ...], mount: Mount, tmp_path: Path) -> None:
    tree, copy = tmp_path / "tree", mount / "copy"
    make_tree(tree)
    # To the nanosecond: by itself rsync takes times of one second for equal.
    command = ("rsync", "-aHAX", "--numeric-ids", "--delete", "--modify-window=-1")
    run(*command, *extra, f"{tree}/", f"{copy}/")
    assert facts(copy) == facts(tree)
    with (tree / "dir1/sub7/large").open("ab") as file:
        file.write(b"appended")
    (tree / "dir0/sub3/small").write_text("shorter")
    shutil.rmtree(tree / "dir2/sub8")
    (tree / "dir2/link").unlink()
    os.rename(tree / "dir0/sub6", tree / "dir1/sub6")
    if "--append-verify" in extra:
        # What has become shorter is not rsync's to notice when it appends.
        run(*command, f"{tree}/", f"{copy}/")
    run(*command, *extra, "--checksum", f"{tree}/", f"{copy}/")
    assert facts(copy) == facts(tree)
    run(*command, *extra, f"{copy}/", f"{tmp_path / 'back'}/")
    assert facts(tmp_path / "back") == facts(tree)
    mount.commit()
    assert (
        run(*command, "--dry-run", "--itemize-changes", "--omit-dir-times", f"{tree}/", f"{mount / '@v1/copy'}/") == ""
    )


def test_rsync_links_what_is_as_in_the_copy_before(mount: Mount, tmp_path: Path) -> None:
    tree, first, second = tmp_path / "tree", mount / "first", mount / "second"
    make_tree(tree)
    command = ("rsync", "-aHAX", "--numeric-ids", "--modify-window=-1")
    run(*command, f"{tree}/", f"{first}/")
    mount.commit()
    (tree / "dir0/sub3/small").write_text("changed")
    run(*command, "--link-dest=../first", f"{tree}/", f"{second}/")
    assert facts(second) == facts(tree)
    assert os.path.samefile(first / "dir1/sub7/large", second / "dir1/sub7/large")
    assert not os.path.samefile(first / "dir0/sub3/small", second / "dir0/sub3/small")
    mount.commit()
    shutil.rmtree(first)
    assert facts(second) == facts(tree)
    old, new = mount / "@v2/first/dir1/sub7/large", mount / "@v2/second/dir1/sub7/large"
    assert os.path.samefile(old, new)


def test_cp_and_mv_keep_what_they_say(mount: Mount, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    expected = facts(tmp_path / "tree")
    run("cp", "-a", tmp_path / "tree", mount / "copied")
    assert facts(mount / "copied") == expected
    run("mv", mount / "copied", mount / "moved")
    run("cp", "-al", mount / "moved", mount / "linked")
    assert (mount / "linked/dir0/sub3/small").stat().st_nlink == 2
    run("rm", "-r", mount / "moved")
    run("mv", mount / "linked", tmp_path / "outside")
    assert {name: fact[:4] for name, fact in facts(tmp_path / "outside").items()} == {
        name: fact[:4] for name, fact in expected.items()
    }


def test_a_build_makes_what_is_out_of_date_and_nothing_else(mount: Mount) -> None:
    names = [f"part{number}" for number in range(8)]
    for name in names:
        (mount / f"{name}.in").write_text(name)
    objects = " ".join(f"{name}.out" for name in names)
    rules = f"all: {objects}\n\tcat {objects} > $@\n%.out: %.in\n\tcp $< $@.tmp && mv $@.tmp $@\n"
    (mount / "Makefile").write_text(rules)
    run("make", "-j4", cwd=mount.path)
    assert (mount / "all").read_text() == "".join(names)
    assert "up to date" in run("make", cwd=mount.path)
    (mount / "part3.in").write_text("changed")
    assert run("make", cwd=mount.path).count("cp part") == 1
    (mount / "part5.in").touch()
    assert run("make", "-n", cwd=mount.path).count("cp part") == 1


def test_an_environment_of_python_is_made_used_and_removed(mount: Mount) -> None:
    """What pip does: many small files, renames over others, compiled beside their source, programs run from there."""
    environment = mount / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    package = environment / "package"
    package.mkdir()
    for number in range(100):
        (package / f"m{number}.py").write_text(f"value = {number}\n")
    run(environment / "bin/python", "-m", "compileall", "-q", package)
    script = "import package.m99, package.m7; print(package.m99.value, package.m99.__cached__)"
    printed = run(environment / "bin/python", "-c", script, cwd=environment).split()
    assert printed[0] == "99"
    assert Path(printed[1]).is_file()
    os.rename(package, environment / "~ackage")
    shutil.rmtree(environment)
    assert os.listdir(mount.path) == []
