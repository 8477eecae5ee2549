"""Several clones of one remote, in any order of commits, pushes, pulls and lost answers, against a model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.sharing import Person
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location, parse_location
from vfs.backend.memory import MemoryBackend
from vfs.backend.protocol import ObjectBackend
from vfs.backend.wrappers import Fault, FaultBackend, Request
from vfs.errors import Conflict
from vfs.model.ids import CommitId
from vfs.remote.format import decode_root
from vfs.repo.fsck import fsck
from vfs.repo.transfer.ref_moves import PushRefused

PEOPLE = 3
WHO = st.integers(0, PEOPLE - 1)


class SharedRepository(RuleBasedStateMachine):
    """Published numbers never change; what was acknowledged is never lost; all end with the same versions."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        root = Path(self._directory.name)
        self.location: Location = parse_location(str(root / "remote"))
        (root / "remote").mkdir()
        self.place = self.make_place(root / "remote")
        self.lost_answers: list[bool] = []
        self.people = [Person(f"p{number}", root / f"p{number}", wrap=self._wrap) for number in range(PEOPLE)]
        self.published: list[CommitId] = []
        self.files: dict[str, bytes] = {}
        self.count = 0

    def make_place(self, directory: Path) -> ObjectBackend:
        """Returns what the remote keeps its objects in."""
        return LocalBackend(directory)

    def _wrap(self, _backend: ObjectBackend) -> ObjectBackend:
        def fault(name: Request, key: str) -> Fault | None:
            if name == "compare_and_swap" and key == "root" and self.lost_answers:
                return Fault(TimeoutError("no answer"), is_done=self.lost_answers.pop())
            return None

        return FaultBackend(self.place, fault)

    @initialize()
    def begin(self) -> None:
        """The first person makes the remote, the others clone it."""
        first = self.people[0].init()
        first.add_remote(self.location)
        first.commit("first", b"first version")
        first.push()
        self.published = first.versions()
        for person in self.people[1:]:
            person.clone(self.location)

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        """Commits a file of one's own, with new contents."""
        self.count += 1
        self.people[who].commit(f"of {who}", b"%d" % self.count * 3000)

    @rule(who=WHO, lost=st.lists(st.booleans(), max_size=2))
    def push(self, who: int, lost: list[bool]) -> None:
        """Pushes, with swaps whose answers are lost; a refusal changes nothing."""
        person = self.people[who]
        self.lost_answers = list(lost)
        before = self.place.read("root")
        try:
            person.push()
        except PushRefused:
            assert self.place.read("root") == before
            return
        finally:
            self.lost_answers.clear()
        self.published = person.versions()

    @rule(who=WHO, rebase=st.booleans())
    def pull(self, who: int, rebase: bool) -> None:
        """Pulls; nothing that this person has made is lost."""
        person = self.people[who]
        name = f"of {who}"
        mine = person.read(name) if person.overlay.find(name.encode()) is not None else None
        try:
            person.pull(rebase=rebase)
        except Conflict:
            # A merge among the own versions: a rebase cannot put it elsewhere.
            assert rebase
            person.pull()
        assert person.versions()[: len(self.published)] == self.published
        if mine is not None:
            assert person.read(name) == mine

    @rule(who=WHO, grace_s=st.sampled_from([0, 3600]), thorough=st.booleans())
    def sweep(self, who: int, grace_s: float, thorough: bool) -> None:
        """Removes what the remote does not need: clones that have seen less still find all that is theirs."""
        self.people[who].sweep(grace_s=grace_s, thorough=thorough)

    @rule(who=WHO)
    def reopen(self, who: int) -> None:
        """Ends a process and begins another one."""
        self.people[who].reopen()

    @invariant()
    def published_numbers_stay(self) -> None:
        """The remote's branch is the published line."""
        if self.published:
            assert decode_root(self.place.read("root")).refs["branches/main"] == self.published[-1].hex()

    def teardown(self) -> None:
        """All push what they have; then all have the same versions, and every byte is right."""
        if self.published:
            for person in self.people:
                before = self.published
                person.pull()
                person.push()
                self.published = person.versions()
                assert self.published[: len(before)] == before
            for person in self.people:
                person.pull()
                assert person.versions() == self.published
                person.fetch(contents=True)
                report = fsck(person.repo, read_data=True)
                assert report.is_clean, report.damage
        for person in self.people:
            person.close()
        self._directory.cleanup()


class SharedInMemory(SharedRepository):
    """The same with a backend that swaps in memory."""

    def make_place(self, directory: Path) -> ObjectBackend:
        """Returns what the remote keeps its objects in."""
        del directory
        return MemoryBackend()


SharedInMemory.TestCase.settings = settings(max_examples=6, stateful_step_count=15)
TestSharedInMemory = SharedInMemory.TestCase
SharedRepository.TestCase.settings = settings(max_examples=12, stateful_step_count=15)
TestSharedRepository = SharedRepository.TestCase
