"""Any sequence of operations: undoing the last one gives back what was before it, undoing that what was after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from support.lines import put
from support.memory import memory_directory
from support.trees import Picture, picture_of_overlay
from vfs.errors import Conflict, VfsError
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.describe import amend, describe
from vfs.repo.fsck import fsck
from vfs.repo.merge import abort_merge, merge
from vfs.repo.merge_conflicts import resolve_conflicts, unresolved
from vfs.repo.merge_state import merge_state
from vfs.repo.notes import described
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.repo.tags import create_tag
from vfs.repo.undo import last_operation, layer_of, undo
from vfs.store.refs.operation_args import encode_args

NAMES = [b"a", b"b", b"d/a", b"d/e/b"]
_texts = st.sampled_from([b"1\n", b"1\n2\n", b"2\n1\n", b"\0bin", b"x" * 5000])


class Everything(NamedTuple):
    """What an operation can change."""

    refs: dict[str, bytes]
    words: list[tuple[str, tuple[tuple[str, str], ...]]]
    files: Picture
    uncommitted: list[bytes]
    left: list[bytes] | None


class UndoMachine(RuleBasedStateMachine):
    """A repository with two branches; `exp` goes on by itself, everything else happens on `main`."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        directory = self.stack.enter_context(memory_directory())
        self.repo = self.stack.enter_context(Repository.init(directory / "repo"))
        self.overlay: Overlay = self.repo.open_overlay("main")
        self.before: Everything | None = None
        self.count = 0

    def teardown(self) -> None:
        self.overlay.close()
        assert fsck(self.repo, read_data=True).damage == []
        self.stack.close()

    def look(self) -> Everything:
        state = merge_state(self.repo, "main")
        left = None if state is None else [conflict.path for conflict in unresolved(self.overlay, state)]
        versions = [described(self.repo, version).commit for version in self.repo.versions("main")]
        return Everything(
            dict(self.repo.refs.list()),
            [(made.message, made.meta) for made in versions],
            picture_of_overlay(self.overlay),
            [change.path for change in self.overlay.changes()],
            left,
        )

    def do(self, act: Callable[[], object]) -> None:
        """Does something; what is refused changes nothing."""
        before, seq = self.look(), self.newest()
        try:
            act()
        except VfsError:
            assert self.look() == before
            return
        if self.newest() > seq:
            self.before = before

    def newest(self) -> int:
        return next((operation.seq for operation in self.repo.refs.operations()), 0)

    def unique(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}-{self.count}"

    @initialize()
    def begin(self) -> None:
        put(self.overlay, b"a", b"1\n")
        put(self.overlay, b"d/a", b"1\n")
        first = commit(self.repo, self.overlay, "first", "a").version
        create_branch(self.repo, "exp", first, author="a")

    @rule(name=st.sampled_from(NAMES), data=_texts)
    def write(self, name: bytes, data: bytes) -> None:
        put(self.overlay, name, data)
        # The last operation may be undone no more: what was written since would be lost, or is in the way.
        self.before = None

    # Undoing may have taken the branch away.
    @precondition(lambda self: self.repo.refs.get("branches/exp") is not None)
    @rule(name=st.sampled_from(NAMES), data=_texts)
    def commit_on_exp(self, name: bytes, data: bytes) -> None:
        with self.repo.open_overlay("exp") as overlay:
            put(overlay, name, data)
            commit(self.repo, overlay, "theirs", "b", allow_empty=True)
        self.before = None

    @rule()
    def commit(self) -> None:
        self.do(lambda: commit(self.repo, self.overlay, "ours", "a"))

    @rule(version=st.sampled_from(["latest", "v1", "exp"]), name=st.sampled_from([b"", *NAMES]), discard=st.booleans())
    def restore(self, version: str, name: bytes, discard: bool) -> None:
        self.do(lambda: restore(self.repo, self.overlay, self.repo.resolve(version), [name], discard=discard))

    @rule()
    def merge(self) -> None:
        with suppress(VfsError):
            commit(self.repo, self.overlay, "before merging", "a")
            self.before = None
        self.do(lambda: merge(self.repo, self.overlay, "exp", self.repo.resolve("exp"), "a"))

    @precondition(lambda self: merge_state(self.repo, "main") is not None)
    @rule(resolution=st.sampled_from(["ours", "theirs", "resolved"]))
    def resolve_conflicts(self, resolution: str) -> None:
        resolve_conflicts(self.repo, self.overlay, [], resolution)  # type: ignore[arg-type]
        self.before = None

    @rule()
    def abort_merge(self) -> None:
        self.do(lambda: abort_merge(self.repo, self.overlay, "a"))

    @rule()
    def tag(self) -> None:
        self.do(lambda: create_tag(self.repo, self.unique("tag"), self.repo.resolve("latest"), author="a"))

    @rule()
    def branch(self) -> None:
        self.do(lambda: create_branch(self.repo, self.unique("branch"), self.repo.resolve("latest"), author="a"))

    @rule(value=st.sampled_from(["0.1", "0.2", ""]))
    def describe(self, value: str) -> None:
        self.do(lambda: describe(self.repo, self.repo.resolve("latest"), "a", meta={"acc": value}))

    @rule()
    def amend(self) -> None:
        self.do(lambda: amend(self.repo, self.overlay, "a", self.unique("amended")))

    def undo_last(self) -> None:
        operation = last_operation(self.repo)
        undo(self.repo, self.overlay if layer_of(operation) is not None else None, operation, "u")

    @precondition(lambda self: self.before is not None)
    @rule(with_reopening=st.booleans())
    def undo(self, with_reopening: bool) -> None:
        before, after = self.before, self.look()
        self.undo_last()
        if with_reopening:
            self.reopen()
        assert self.look() == before
        self.before = after

    @rule()
    def undo_after_changes(self) -> None:
        """Nothing that was written since is lost: it is there afterwards, or undo refuses and changes nothing."""
        if layer_of_last(self.repo) not in (None, "main"):
            return
        before = self.look()
        uncommitted = set(before.uncommitted)
        try:
            self.undo_last()
        except Conflict:
            assert self.look() == before
            return
        self.before = before
        if encode_args(last_operation(self.repo).args).get("what") not in (
            "restore",
            "undo",
            "merge-begin",
            "merge-abort",
        ):
            files = self.look().files
            assert all(files.get(path) == before.files.get(path) for path in uncommitted)

    @rule()
    def reopen(self) -> None:
        self.overlay.close()
        self.overlay = self.repo.open_overlay("main")

    @rule()
    def crash(self) -> None:
        self.overlay.abandon()
        self.overlay = self.repo.open_overlay("main")


def layer_of_last(repo: Repository) -> str | None:
    with suppress(Conflict):
        return layer_of(last_operation(repo))
    return None


def test_undo_gives_back_what_was_before() -> None:
    run_state_machine_as_test(UndoMachine, settings=settings(max_examples=40, stateful_step_count=25))
