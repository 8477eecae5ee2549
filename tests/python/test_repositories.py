"""Repositories, versions and files for Python programs."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest

import vfs
from support import shell
from support.small_repositories import FIRST, SECOND, commit
from vfs.errors import (
    AlreadyExists,
    InvalidInput,
    IsADirectory,
    NotADirectory,
    NotFound,
    ReadOnly,
)


def test_a_version_is_found_by_number_name_tag_and_id(small: vfs.Repository) -> None:
    first, second = small["v1"], small[2]
    small.tag("good", first)
    assert small["good"] == first == small[first.id] == small[first.id[:8]] == small["latest~1"]
    assert small.head == second == small["latest"] == small.version()
    assert (first.name, first.number, second.parents) == ("v1", 1, [first.id])
    assert first.tags == ["good"]
    assert small.tags() == {"good": first}
    assert small.branches() == {"main": second}
    assert [version.name for version in small] == ["v2", "v1"]
    assert [version.name for version in small.log(limit=1)] == ["v2"]


@pytest.mark.parametrize("name", ["v3", "nothing", "ffffffff", 0, 99])
def test_a_version_that_is_not_there_is_not_found(small: vfs.Repository, name: str | int) -> None:
    with pytest.raises(NotFound):
        small[name]


def test_what_is_said_of_a_version(small: vfs.Repository) -> None:
    version = small["v1"]
    assert (version.message, version.author, version.files) == ("first", "a@b", 3)
    assert version.size == sum(map(len, FIRST.values()))
    assert version.time.tzinfo is not None
    assert version.as_dict()["id"] == version.id
    assert repr(version).startswith("<vfs.Version v1 ")


def test_files_are_read_whole_in_parts_and_as_text(small: vfs.Repository) -> None:
    version, data = small["v1"], FIRST["dir/deep/c.bin"]
    assert version.read_bytes("dir/deep/c.bin") == data
    with version.open("dir/deep/c.bin") as file:
        assert file.size == len(data)
        assert file.read(10) == data[:10]
        file.seek(-5, io.SEEK_END)
        assert (file.tell(), file.read()) == (len(data) - 5, data[-5:])
        file.seek(1000)
        assert file.read(70_000) == data[1000:71_000]
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()
    with version.open("a.txt", "r") as text:
        assert text.readlines() == ["one\n", "two\n"]
    assert version.read_text("a.txt") == "one\ntwo\n"


def test_a_version_is_not_written_to(small: vfs.Repository) -> None:
    with pytest.raises(ReadOnly):
        small["v1"].open("a.txt", "wb")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="none of"):
        small["v1"].open("a.txt", "x" * 0 + "q")  # type: ignore[call-overload]


def test_directories_are_listed_and_walked(small: vfs.Repository) -> None:
    version = small["v1"]
    assert [entry.path for entry in version.ls()] == ["a.txt", "dir"]
    assert [entry.name for entry in version.ls("/dir/")] == ["b.csv", "deep"]
    assert [entry.path for entry in version.walk()] == ["a.txt", "dir", "dir/b.csv", "dir/deep", "dir/deep/c.bin"]
    entry = version.info("dir")
    assert entry.is_dir
    assert entry.files == 2
    assert version.exists("dir/b.csv")
    assert not version.exists("a.txt/b")
    with pytest.raises(NotADirectory):
        version.ls("a.txt")
    with pytest.raises(IsADirectory):
        version.read_bytes("dir")
    with pytest.raises(InvalidInput):
        version.info("../x")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["a.txt"]),
        ("**", ["a.txt", "dir/b.csv", "dir/deep/c.bin"]),
        ("**/*.csv", ["dir/b.csv"]),
        ("dir/*/*.bin", ["dir/deep/c.bin"]),
        ("**/[ab].*", ["a.txt", "dir/b.csv"]),
        ("**/[!a].*", ["dir/b.csv", "dir/deep/c.bin"]),
        ("dir/?.csv", ["dir/b.csv"]),
        ("none/**", []),
        ("a.tx", []),
    ],
)
def test_patterns_find_files(small: vfs.Repository, pattern: str, found: list[str]) -> None:
    assert [entry.path for entry in small["v1"].glob(pattern)] == found


def test_links_are_followed_within_the_version(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "sub" / "file").write_bytes(b"x")
    (data / "to_file").symlink_to("sub/file")
    (data / "to_sub").symlink_to("sub")
    (data / "sub" / "up").symlink_to("../to_file")
    (data / "out").symlink_to("/etc/passwd")
    (data / "above").symlink_to("../../x")
    (data / "loop").symlink_to("loop")
    (data / "gone").symlink_to("nothing")
    repository = tmp_path / "repo"
    shell.vfs("init", repository)
    shell.vfs("--repo", repository, "import", data, "-m", "x")
    version = vfs.open(repository)["v1"]
    for path in ("to_file", "to_sub/file", "sub/up", "to_sub/up"):
        assert version.read_bytes(path) == b"x"
    assert version.info("to_sub").is_dir
    assert version.info("to_sub", follow=False).target == "sub"
    assert [entry.path for entry in version.ls("to_sub")] == ["to_sub/file", "to_sub/up"]
    for path in ("out", "above", "loop", "gone"):
        assert not version.exists(path)
        with pytest.raises(NotFound):
            version.read_bytes(path)


def test_changes_are_typed_and_name_rows(small: vfs.Repository) -> None:
    diff = vfs.diff(small["v1"], small["v2"])
    changes = {change.path: change for change in diff}
    assert set(changes) == {"a.txt", "dir/b.csv"}
    assert changes["a.txt"].kind == "modified"
    assert "content" in changes["a.txt"].what
    assert any(line.startswith("+") for line in changes["a.txt"].detail())
    rows = changes["dir/b.csv"].rows()
    assert (rows.key, rows.added, rows.removed, rows.changed) == ("key", 1, 0, 1)
    assert [(row.kind, row.key, row.cells) for row in rows.changes] == [
        ("changed", "2", {"value": ("y", "z")}),
        ("added", "3", {}),
    ]
    assert len(changes["dir/b.csv"].rows(limit=1).changes) == 1
    assert diff.counts().modified == 2
    with pytest.raises(InvalidInput, match="no table"):
        changes["a.txt"].rows()
    with pytest.raises(InvalidInput, match="no column"):
        changes["dir/b.csv"].rows(key="nothing")
    assert [change.path for change in small.diff(1, 2, "dir")] == ["dir/b.csv"]
    with pytest.raises(NotFound):
        list(small.diff(1, 2, "nothing"))


def test_all_rows_are_named_where_they_are_asked_for(small: vfs.Repository) -> None:
    lines = [f"{number},a\n" for number in range(3000)]
    commit(small, {"t.csv": ("k,v\n" + "".join(lines)).encode()}, "table")
    commit(small, {"t.csv": ("k,v\n" + "".join(lines).replace("a", "b")).encode()}, "other")
    (change,) = small.diff(3, 4)
    assert len(change.rows(limit=None).changes) == change.rows().changed == 3000
    assert len(change.rows().changes) == 1000


def test_renames_and_removals(small: vfs.Repository) -> None:
    commit(small, {"moved.bin": FIRST["dir/deep/c.bin"], "dir/deep": None}, "move")
    (change,) = (change for change in small.diff(2, 3) if change.kind == "renamed")
    assert (change.path, change.similarity) == ("moved.bin", 1.0) or change.old_path == "dir/deep"
    assert {change.kind for change in small.diff(2, 3, renames=False)} == {"added", "removed"}
    removed = next(change for change in small.diff(2, 3, renames=False) if change.kind == "removed")
    with pytest.raises(InvalidInput, match="no other side"):
        removed.detail()


def test_versions_of_two_repositories_are_not_compared(small: vfs.Repository, tmp_path: Path) -> None:
    with vfs.init(tmp_path / "other") as other, pytest.raises(InvalidInput, match="two repositories"):
        vfs.diff(small["v1"], commit(other, FIRST, "x"))


def test_history_and_blame(small: vfs.Repository) -> None:
    steps = list(small.history("a.txt"))
    assert [(step.version.name, step.kind) for step in steps] == [("v2", "modified"), ("v1", "added")]
    blamed = small.blame("a.txt")
    assert [(line.text, line.version.name) for line in blamed] == [("one", "v1"), ("2", "v2"), ("three", "v2")]
    rows = small.blame("dir/b.csv", key="key")
    assert [(row.key, row.version.name) for row in rows] == [("1", "v1"), ("2", "v2"), ("3", "v2")]
    assert [line.version.name for line in small.blame("a.txt", "v1")] == ["v1", "v1"]


def test_what_is_pickled_is_the_same_version(small: vfs.Repository) -> None:
    version = small["latest"]
    copy = pickle.loads(pickle.dumps(version))  # noqa: S301  It was made here.
    assert copy == version
    assert copy.read_bytes("a.txt") == SECOND["a.txt"]
    assert pickle.loads(pickle.dumps(small)).path == small.path  # noqa: S301  It was made here.


def test_a_repository_is_opened_as_often_as_wanted_and_again_after_closing(small: vfs.Repository) -> None:
    version = small["v1"]
    with vfs.open(small.path) as again, version.open("dir/deep/c.bin") as file:
        assert again["v1"] == version
        first = file.read(10)
        again.close()
        assert first + file.read() == FIRST["dir/deep/c.bin"]
    assert version.read_bytes("a.txt") == FIRST["a.txt"]


def test_opening_something_else_says_what_to_do(tmp_path: Path, small: vfs.Repository) -> None:
    with pytest.raises(NotFound):
        vfs.open(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="no repository"):
        vfs.open(tmp_path)
    with pytest.raises(NotFound, match="no branch"):
        vfs.open(small.path, branch="other")
    with pytest.raises(AlreadyExists):
        vfs.init(small.path)


def test_files_are_a_dataset(small: vfs.Repository) -> None:
    files = small["v1"].dataset("**/*.*", transform=lambda path, data: (path, len(data)))
    assert len(files) == 3
    assert files[0] == ("a.txt", 8)
    assert files.__getitems__([2, 0]) == [files[2], files[0]]
    assert files.version_id == small["v1"].id
    plain = small["v1"].dataset("*.txt")
    assert plain[0] == FIRST["a.txt"]
    assert len(plain) == 1


def test_notebooks_get_html_that_is_escaped(small: vfs.Repository) -> None:
    commit(small, {"<b>.txt": b"<script>1</script>\n"}, "<i>message</i>")
    commit(small, {"<b>.txt": b"<script>2</script>\n"}, "next")
    for shown in (small, small.log(), small["v3"], small.diff(3, 4), small.diff(2, 3)):
        html = shown._repr_html_()
        assert "<script" not in html
        assert "<i>" not in html
        assert "<b>." not in html
    assert "&lt;i&gt;" in small["v3"]._repr_html_()
