"""Restoring whole versions: a tree that is given back is the tree that it was, to the id."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from support.lines import put
from support.memory import memory_directory
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.restore import restore

NAMES = [b"a", b"b", b"d/a", b"d/e/b", b"f/a"]
_files = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([b"", b"tiny", b"other", b"x" * 5000, b"y" * 5000]))


@settings(max_examples=40)
@given(trees=st.lists(_files, min_size=1, max_size=4), pick=st.integers(0, 3), uncommitted=_files)
def test_any_version_that_is_restored_and_committed_has_its_old_trees_id(
    trees: list[dict[bytes, bytes]], pick: int, uncommitted: dict[bytes, bytes]
) -> None:
    with (
        memory_directory() as directory,
        Repository.init(directory / "repo") as repo,
        repo.open_overlay("main") as overlay,
    ):
        versions = []
        there: set[bytes] = set()
        for files in trees:
            for path in there - set(files):
                put(overlay, path, None)
            for path, data in files.items():
                put(overlay, path, data)
            there = set(files)
            versions.append(commit(repo, overlay, "m", "a", allow_empty=True).version)
        for path, data in uncommitted.items():
            put(overlay, path, data)
        old = versions[pick % len(versions)].commit
        restore(repo, overlay, versions[pick % len(versions)], discard=True)
        new = commit(repo, overlay, "back", "a", allow_empty=True).version.commit
        assert (new.root, new.links) == (old.root, old.links)
