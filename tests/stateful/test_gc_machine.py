"""Commits, tags, branches, forgetting, restoring and gc in any order: what is reachable is there, byte for byte."""

from __future__ import annotations

import random
import shutil
import time
from contextlib import ExitStack

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.memory import memory_directory
from support.trees import Picture, picture_of_overlay, picture_of_version, write_file
from vfs.errors import NotPermitted
from vfs.history.revision import ForgottenVersion
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import commit
from vfs.repo.fsck import fsck
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.retention.gc import forget, gc
from vfs.repo.retention.policy import Rules
from vfs.repo.tags import create_tag, delete_tag
from vfs.store.refs.operation import Operation, RefChange

_noise = random.Random(7)
# Few contents, so that what was swept comes back all the time: tiny, one chunk, a list of chunks.
CONTENTS = [b"", b"tiny", *(_noise.randbytes(size) for size in (3000, 9000, 40_000, 700_000))]
NAMES = [b"a", b"b", b"d/a", b"d/b", b"d/e/c"]

names = st.sampled_from(NAMES)
contents = st.sampled_from(CONTENTS)
picks = st.integers(0, 7)


class GcMachine(RuleBasedStateMachine):
    """A repository against dicts: a picture for each commit, and which commits are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.directory = self.stack.enter_context(memory_directory())
        self.repo = Repository.init(self.directory / "repo", cache_bytes_max=1 << 20)
        self.overlay: Overlay = self.repo.open_overlay()
        self.pictures: dict[CommitId, Picture] = {}
        self.line: list[CommitId] = []
        self.forgotten: set[CommitId] = set()
        self.refs: dict[str, CommitId] = {}

    @initialize()
    def begin(self) -> None:
        for name in NAMES:
            write_file(self.overlay, name, CONTENTS[len(name)])
        self.commit()

    @rule(name=names, data=contents)
    def write(self, name: bytes, data: bytes) -> None:
        write_file(self.overlay, name, data)

    @rule(name=st.sampled_from([b"a", b"b"]))
    def remove(self, name: bytes) -> None:
        if self.overlay.find(name) is not None:
            self.overlay.unlink(ROOT_INO, name)

    @rule()
    def commit(self) -> None:
        picture = picture_of_overlay(self.overlay)
        version = commit(self.repo, self.overlay, "m", "a", allow_empty=True).version
        self.pictures[version.id] = picture
        self.line.append(version.id)

    @rule(pick=picks, name=names)
    def restore(self, pick: int, name: bytes) -> None:
        version = self.version(pick)
        if version.id in self.forgotten or name not in self.pictures[version.id]:
            return
        restore(self.repo, self.overlay, version, [name], discard=True)

    @rule(pick=picks, number=st.integers(0, 1))
    def tag(self, pick: int, number: int) -> None:
        version = self.version(pick)
        if version.id not in self.forgotten:
            create_tag(self.repo, f"tag{number}", version, author="a", replace=True)
            self.refs[f"tags/tag{number}"] = version.id

    @precondition(lambda self: any(name.startswith("tags/") for name in self.refs))
    @rule()
    def untag(self) -> None:
        name = min(name for name in self.refs if name.startswith("tags/"))
        delete_tag(self.repo, name.removeprefix("tags/"), author="a")
        del self.refs[name]

    @rule(pick=picks)
    def branch(self, pick: int) -> None:
        version = self.version(pick)
        if version.id not in self.forgotten:
            self.move("branches/side", version.id)

    @precondition(lambda self: "branches/side" in self.refs)
    @rule()
    def remove_branch(self) -> None:
        self.move("branches/side", None)

    @rule(pick=picks, with_tags=st.booleans())
    def forget(self, pick: int, with_tags: bool) -> None:
        version = self.version(pick)
        tags = [name for name, at in self.refs.items() if name.startswith("tags/") and at == version.id]
        base = self.overlay.base
        is_held = version.id in (self.line[-1], self.refs.get("branches/side"), base and base.id)
        try:
            forget(self.repo, [version], author="a", with_tags=with_tags)
        except NotPermitted:
            assert is_held or (tags and not with_tags)
            return
        assert not is_held
        self.forgotten.add(version.id)
        for name in tags:
            del self.refs[name]

    @rule(thorough=st.booleans(), undo=st.booleans(), young=st.booleans())
    def gc(self, thorough: bool, undo: bool, young: bool) -> None:
        gc(self.repo, grace_s=3600 if young else 0, undo_s=3600 if undo else 0, thorough=thorough)

    @rule(last=st.integers(1, 3))
    def gc_with_rules(self, last: int) -> None:
        done = gc(self.repo, Rules(last=last), grace_s=0, undo_s=0)
        gone = {version.id for version in done.forgotten}
        assert not gone & {*self.line[-last:], *self.refs.values(), *self.forgotten}
        self.forgotten |= gone

    @rule(fresh_index=st.booleans())
    def reopen(self, fresh_index: bool) -> None:
        self.overlay.close()
        self.repo.close()
        if fresh_index:
            shutil.rmtree(self.directory / "repo/index")
        self.repo = Repository.open(self.directory / "repo", cache_bytes_max=1 << 20)
        before = self.overlay
        self.overlay = self.repo.open_overlay()
        assert before is not self.overlay

    @invariant()
    def versions_hold_what_they_held(self) -> None:
        for number, commit_id in enumerate(self.line[-4:], max(1, len(self.line) - 3)):
            try:
                version = self.repo.resolve(f"v{number}")
            except ForgottenVersion:
                assert commit_id in self.forgotten
                continue
            assert version.id == commit_id
            assert picture_of_version(self.repo.store, version) == self.pictures[commit_id]

    def teardown(self) -> None:
        try:
            for commit_id in set(self.line) - self.forgotten:
                version = Version(commit_id, self.repo.store.get_commit(commit_id))
                assert picture_of_version(self.repo.store, version) == self.pictures[commit_id]
            # What is left on disk is enough to commit on.
            picture = picture_of_overlay(self.overlay)
            made = commit(self.repo, self.overlay, "m", "a", allow_empty=True).version
            assert picture_of_version(self.repo.store, made) == picture
            report = fsck(self.repo, read_data=True)
            assert report.is_clean, report.damage
        finally:
            self.overlay.close()
            self.repo.close()
            self.stack.close()

    def version(self, pick: int) -> Version:
        """Returns one of the newest versions, by its id."""
        commit_id = self.line[-1 - pick % len(self.line)]
        return Version(commit_id, self.repo.store.get_commit(commit_id))

    def move(self, name: str, new: CommitId | None) -> None:
        """Moves a ref, or (None) removes it."""
        old = self.refs.get(name)
        change = RefChange(name, old.hex() if old else "", new.hex() if new else "")
        self.repo.refs.move(Operation(time_ns=time.time_ns(), kind="branch", refs=(change,)))
        if new is None:
            del self.refs[name]
        else:
            self.refs[name] = new


GcMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestGc = GcMachine.TestCase
