"""Goal: ignore rules mean what git takes them to mean, and leave out of a version what they name and nothing else."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfs.errors import InvalidInput, NotADirectory, NothingToDo
from vfs.model.objects import Kind
from vfs.repo.ignore_rules import DEFAULTS, RULES_BYTES_MAX, Excluded, Rules, parse, rules_of
from vfs.repo.import_directory import Imported, Unreadable, import_directory
from vfs.repo.repository import Repository
from vfs.store.trees.directories import resolve_path, walk

NAMES = [b"a", b"b", b"ab", b"a b", b"a ", b".x", b"\xff", b"a\xe9", b"!a", b"#a", b"a*", b"[a]", b"a\\", b"A", b"a\tb"]
NAMES += [b"a-b", b"\n", b"a]", b"9"]
ATOMS = [
    b"a",
    b"b",
    b"ab",
    b"*",
    b"**",
    b"?",
    b"/",
    b"/",
    b"\\a",
    b"\\*",
    b"\\\\",
    b"!",
    b"#",
    b" ",
    b"\\ ",
    b".",
    b"\t",
]
ATOMS += [
    b"**/*",
    b"\xff",
    b"[ab]",
    b"[!a]",
    b"[^a]",
    b"[a-b]",
    b"[]a]",
    b"[[:alpha:]]",
    b"[![:digit:]]",
    b"[\xff-\xff]",
    b"[b-a]",
]
ATOMS += [
    b"\t",
    b"[b-a]",
    b"[",
    b"]",
    b"\\[",
    b"[a",
    b"[a-",
    b"-",
    b"\\!",
    b"\\#",
    b"\\\t",
    b"[[:none:]]",
    b"[/]",
    b"[\\]]",
    b"x",
    b"9",
]

lines = st.builds(
    lambda negated, atoms: (b"!" if negated else b"") + b"".join(atoms),
    st.sampled_from([False, False, False, True]),
    st.lists(st.sampled_from(ATOMS), min_size=1, max_size=5),
)
texts = st.builds(
    lambda bom, end, some: (b"\xef\xbb\xbf" if bom else b"") + end.join(some),
    st.booleans(),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(lines, min_size=1, max_size=4),
)
paths = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple), min_size=1, max_size=10)


def git_ignores(root: bytes, files: list[bytes]) -> set[bytes]:
    """Returns which of the paths git ignores."""
    ended = subprocess.run(
        ["git", "check-ignore", "-z", "--stdin", "--no-index"],
        cwd=root,
        input=b"".join(path + b"\0" for path in files),
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": os.fsdecode(root), "GIT_CONFIG_NOSYSTEM": "1"},
        check=False,
    )
    assert ended.returncode in (0, 1), ended.stderr
    return set(ended.stdout.split(b"\0")) - {b""}


def we_ignore(root: bytes, directory: bytes, rules: Rules, *, all_of_it: bool = False) -> set[bytes]:
    """Returns the paths that the rules ignore, by walking down."""
    found: set[bytes] = set()
    here = os.path.join(root, directory) if directory else root
    own = os.path.join(here, b".gitignore")
    rules = rules.inside(directory, Path(os.fsdecode(own)).read_bytes() if os.path.exists(own) else None)
    for name in os.listdir(here):
        if name == b".git":
            continue
        path = directory + b"/" + name if directory else name
        is_directory = os.path.isdir(os.path.join(here, name))
        is_ignored = all_of_it or rules.ignores(directory, name, is_directory=is_directory)
        found |= {path} if is_ignored else set()
        if is_directory:
            found |= we_ignore(root, path, rules, all_of_it=is_ignored)
    return found


@settings(max_examples=40)
@given(paths, st.dictionaries(st.integers(0, 9), texts, max_size=3), texts)
def test_ignored_paths_are_those_that_git_ignores(
    files: list[tuple[bytes, ...]], nested: dict[int, bytes], top: bytes
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = os.fsencode(directory)
        subprocess.run(["git", "init", "-q", directory], check=True)
        for file in files:
            path = os.path.join(root, *file)
            if not os.path.exists(path) and not any(
                os.path.isfile(os.path.join(root, *file[:depth])) for depth in range(1, len(file))
            ):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb"):
                    pass
        folders = [os.fsencode(folder) for folder, _, _ in os.walk(directory) if "/.git" not in folder]
        for number, text in {**nested, 0: top}.items():
            with open(os.path.join(folders[number % len(folders)], b".gitignore"), "wb") as rules:
                rules.write(text)
        everything = [
            os.path.relpath(os.path.join(os.fsencode(folder), os.fsencode(name)), root)
            for folder, folders_in, names in os.walk(directory)
            for name in (*folders_in, *names)
            if "/.git" not in folder + "/" + name or name == ".gitignore"
        ]
        assert we_ignore(root, b"", Rules()) == git_ignores(root, everything)


def bring_in(
    repo: Repository, directory: Path, *excludes: bytes, into: bytes = b"", rules: Excluded | None = None
) -> Imported:
    with repo.open_overlay() as overlay:
        return import_directory(
            repo,
            directory,
            "m",
            "a",
            overlay=overlay,
            into=into,
            rules=rules_of(rules if rules is not None else Excluded(list(excludes))),
        )


def names_of(repo: Repository, imported: Imported) -> list[bytes]:
    return [path for path, _, _ in walk(repo.store, imported.version.commit.root)]


def make(directory: Path, files: Mapping[str, str]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_an_import_leaves_out_what_rules_name_and_says_how_much(repo: Repository, tmp_path: Path) -> None:
    source = make(
        tmp_path / "source",
        {".vfsignore": "*.tmp\n/cache/\n!keep.tmp\n", "a": "1", "a.tmp": "2", "keep.tmp": "3"},
    )
    make(source, {"cache/x": "4", "cache/y": "5", "sub/cache/z": "6", "only/b.tmp": "7"})
    done = bring_in(repo, source)
    assert names_of(repo, done) == [b".vfsignore", b"a", b"keep.tmp", b"only", b"sub", b"sub/cache", b"sub/cache/z"]
    assert (done.tally.ignored, done.tally.files) == (3, 4), "a directory counts as one, an empty one stays"


def test_versioned_paths_stay_versioned_when_ignored(repo: Repository, tmp_path: Path) -> None:
    source = make(tmp_path / "source", {"cache/old": "1", "log": "2", "gone": "3"})
    bring_in(repo, source)
    make(source, {".vfsignore": "cache\nlog\ngone\n", "cache/old": "changed", "cache/new": "4", "log": "changed"})
    (source / "gone").unlink()
    done = bring_in(repo, source)
    assert names_of(repo, done) == [b".vfsignore", b"cache", b"cache/old", b"log"]
    assert resolve_path(repo.store, done.version.commit.root, b"cache/old").entry.size == len("changed")
    (source / "log").unlink()
    (source / "log").mkdir()
    make(source, {"log/x": "5"})
    assert b"log" not in names_of(repo, bring_in(repo, source)), "a directory is another thing than the file was"


def test_excludes_come_before_files_and_defaults_after_them(repo: Repository, tmp_path: Path) -> None:
    source = make(
        tmp_path / "source",
        {".vfsignore": "!a\n!x.tmp\nc\n", "a": "1", "b": "2", "c": "3", "x.tmp": "4", "y.tmp": "5"},
    )
    make(source, {"__pycache__/m.pyc": "6"})
    assert names_of(repo, bring_in(repo, source, b"a", b"!c", b"__pycache__")) == [
        b".vfsignore",
        b"b",
        b"c",
        b"x.tmp",
        b"y.tmp",
    ]
    other = bring_in(repo, source, into=b"defaults", rules=Excluded([], defaults=True))
    assert [name for name in names_of(repo, other) if name.startswith(b"defaults/")] == [
        b"defaults/.vfsignore",
        b"defaults/a",
        b"defaults/b",
        b"defaults/x.tmp",
    ]
    raw = bring_in(repo, source, into=b"raw", rules=Excluded(reads_files=False))
    assert b"raw/__pycache__/m.pyc" in names_of(repo, raw)
    assert b"raw/c" in names_of(repo, raw)


def test_no_pattern_takes_longer_than_a_name_is_long() -> None:
    for text in (b"*a*a*a*a*a*a*a*a*a*b", b"*$a*$a*$a*$a*$a*$a*$b", b"*a?*a?*a?*a?*a?*a?*b", b"*[a]*[a]*[a]*[a]*[b]"):
        (pattern,) = parse(text)
        for name in (b"$a" * 120, b"a$" * 120, b"a" * 250):
            assert not pattern.matches(name, name, is_directory=False)


def test_patterns_that_are_none_are_refused_where_they_are_typed_and_match_nothing_in_files() -> None:
    for text in (b"", b"# words", b"/", b"[b", b"  "):
        with pytest.raises(InvalidInput, match="no pattern"):
            rules_of(Excluded([text]))
        assert parse(text) == ()
    assert len(parse(b"\n".join(DEFAULTS))) == len(DEFAULTS)


def test_files_of_rules_that_cannot_be_read_are_said(repo: Repository, tmp_path: Path) -> None:
    source = make(tmp_path / "source", {"a": "1"})
    rules = source / ".vfsignore"
    rules.write_bytes(b"#" * (RULES_BYTES_MAX + 1))
    with pytest.raises(Unreadable, match="too much for ignore rules"):
        bring_in(repo, source)
    rules.unlink()
    make(tmp_path / "other", {"rules": "a\n"})
    rules.symlink_to(tmp_path / "other/rules")
    assert names_of(repo, bring_in(repo, source)) == [b".vfsignore", b"a"], "links are not followed, as in git"
    rules.unlink()
    os.mkfifo(rules)
    assert names_of(repo, bring_in(repo, source)) == [b".vfsignore", b"a"]


def test_names_for_versions_can_be_ignored(repo: Repository, tmp_path: Path) -> None:
    source = make(tmp_path / "source", {"a": "1"})
    (source / "@eaDir").mkdir()
    with pytest.raises(Unreadable, match="@"):
        bring_in(repo, source)
    assert names_of(repo, bring_in(repo, source, b"@eaDir/")) == [b"a"]


def test_into_replaces_one_directory_and_keeps_everything_else(repo: Repository, tmp_path: Path) -> None:
    one = make(tmp_path / "one", {"a": "1", "sub/old": "2", "sub/deep/x": "3"})
    os.link(one / "a", one / "b")
    os.link(one / "a", one / "sub/c")
    os.link(one / "sub/old", one / "old")
    first = bring_in(repo, one)
    two = make(tmp_path / "two", {"new": "4"})
    os.link(two / "new", two / "again")
    done = bring_in(repo, two, into=b"/sub/")
    assert names_of(repo, done) == [b"a", b"b", b"old", b"sub", b"sub/again", b"sub/new"]
    commit = done.version.commit
    linked = {path: entry.linked for path, _, entry in walk(repo.store, commit.root) if entry.kind == Kind.FILE}
    assert linked == {b"a": True, b"b": True, b"old": False, b"sub/again": True, b"sub/new": True}
    assert commit.root.files == 5
    with pytest.raises(NothingToDo):
        bring_in(repo, two, into=b"sub")
    far = bring_in(repo, two, into=b"x/y/z")
    assert names_of(repo, far)[-5:] == [b"x", b"x/y", b"x/y/z", b"x/y/z/again", b"x/y/z/new"]
    with repo.open_overlay() as overlay:
        assert overlay.is_clean()
    with pytest.raises(NotADirectory, match="is no directory"):
        bring_in(repo, two, into=b"a")
    with pytest.raises(NotADirectory):
        bring_in(repo, two, into=b"a/b")
    with pytest.raises(InvalidInput, match="@"):
        bring_in(repo, two, into=b"@v1")
    assert repo.resolve("v1").id == first.version.id


def test_into_begins_a_repository_and_rules_above_hold(repo: Repository, tmp_path: Path) -> None:
    top = make(tmp_path / "top", {".vfsignore": "*.tmp\n/x/y/skip\n"})
    two = make(tmp_path / "two", {"a": "1", "b.tmp": "2", "skip": "3"})
    done = bring_in(repo, two, into=b"x/y")
    assert len(names_of(repo, done)) == 5
    bring_in(repo, top)
    assert names_of(repo, bring_in(repo, two, into=b"x/y")) == [b".vfsignore", b"x", b"x/y", b"x/y/a"]
