"""Push: cost follows the change, numbers that others have seen stay, and no interruption loses or doubles anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.sharing import Person, content
from support.threads import together
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.backend.protocol import TokenMismatch
from vfs.backend.wrappers import CountingBackend, Fault, FaultBackend, Request
from vfs.errors import Advice, Conflict, Hint, NotFound
from vfs.history.walk import ancestors
from vfs.remote.format import decode_root
from vfs.remote.remote import Remote
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.ignore_rules import Rules
from vfs.repo.partial_commit import Selection
from vfs.repo.protection import protect
from vfs.repo.tags import create_tag
from vfs.repo.transfer.byte_transfer import Pace
from vfs.repo.transfer.push import push
from vfs.repo.transfer.ref_moves import PushRefused
from vfs.repo.transfer.remotes import list_remotes
from vfs.store.refs.operation import BRANCHES

People = Callable[[str], Person]


def test_a_push_of_nothing_is_one_request(ana: Person, counted: CountingBackend) -> None:
    ana.commit("a", content(1))
    assert len(ana.push().refs) == 1
    counted.counts.requests.clear()
    assert ana.push().refs == []
    requests = {name: count for name, count in counted.counts.requests.items() if name != "size"}
    assert requests == {"read_versioned": 1}


def test_the_cost_follows_the_change(ana: Person, counted: CountingBackend) -> None:
    for number in range(200):
        ana.write(f"f{number}", content(number))
    ana.commit("last", b"")
    first = ana.push()
    assert first.bytes > 200 * 50_000
    for number in range(2):
        ana.write(f"f{number}", content(1000 + number))
    ana.commit("more", b"")
    counted.counts.requests.clear()
    counted.counts.bytes_written = 0
    done = ana.push()
    assert done.bytes < 2 * 50_000 * 1.3
    assert counted.counts.bytes_written < 2 * 50_000 * 1.5
    assert sum(count for name, count in counted.counts.requests.items() if name != "size") <= 8


def test_several_branches_and_tags_move_at_once_or_not_at_all(ana: Person, place: LocalBackend) -> None:
    first = ana.commit("a", content(1))
    create_tag(ana.repo, "paper", first, author="ana")
    ana.push(tags=True)
    refs = decode_root(place.read("root")).refs
    assert refs == {"branches/main": first.id.hex(), "tags/paper": first.id.hex()}
    with pytest.raises(NotFound) as refused:
        ana.push(["main", "other"])
    assert refused.value.hint == Hint(Advice.LIST_BRANCHES)


def test_a_remote_given_as_a_branch_is_told_apart(ana: Person) -> None:
    ana.commit("a", content(1))
    (name, _), *_ = list_remotes(ana.repo)
    with pytest.raises(NotFound, match="no version to push") as refused:
        ana.push([name])
    assert refused.value.hint == Hint(Advice.PUSH_TO_REMOTE, {"remote": name})


def test_a_push_that_would_lose_versions_is_refused_with_who_made_them(
    ana: Person, people: People, location: Location
) -> None:
    ana.commit("a", content(1))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    ben.commit("b", content(2))
    ben.commit("c", content(3))
    ben.push()
    ana.commit("d", content(4))
    before = ana.versions()
    with pytest.raises(PushRefused, match=r"origin has v2 to v3 \(ben, just now\) of main, and you have your own v2"):
        ana.push()
    assert ana.versions() == before


def test_a_tag_of_another_version_is_not_moved(ana: Person, people: People, location: Location) -> None:
    first = ana.commit("a", content(1))
    create_tag(ana.repo, "paper", first, author="ana")
    ana.push(tags=True)
    ben = people("ben")
    ben.clone(location)
    second = ben.commit("b", content(2))
    create_tag(ben.repo, "paper", second, author="ben", replace=True)
    with pytest.raises(PushRefused, match="tag 'paper'"):
        ben.push(tags=True)


def test_protection_travels_and_ends_where_it_was_ended(ana: Person, people: People, location: Location) -> None:
    ana.commit("a", content(1))
    protect(ana.repo, BRANCHES + "main", author="ana")
    ana.push()
    ben = people("ben")
    ben.clone(location)
    with pytest.raises(Conflict, match="protected"):
        ben.commit("b", content(2))
    protect(ben.repo, BRANCHES + "main", author="ben", on=False)
    ben.push()
    ana.fetch()
    ana.commit("c", content(3))
    ana.push()


def test_damage_is_not_pushed(ana: Person) -> None:
    ana.commit("a", content(1))
    pack = next((ana.path / "packs" / "data").glob("*/*.pack"))
    good = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(good[:100] + bytes((good[100] ^ 1,)) + good[101:])
    ana.reopen()
    with pytest.raises(Exception, match="damaged"):
        ana.push()
    pack.write_bytes(good)


@pytest.mark.parametrize("is_done", [False, True])
def test_a_swap_without_an_answer_is_decided_by_the_nonce(
    ana: Person, place: LocalBackend, counted: CountingBackend, is_done: bool
) -> None:
    ana.commit("a", content(1))
    failed: list[str] = []

    def fault(name: Request, key: str) -> Fault | None:
        if name == "compare_and_swap" and key == "root" and not failed:
            failed.append(key)
            return Fault(TimeoutError("no answer"), is_done=is_done)
        return None

    ana.wrap = lambda _backend: FaultBackend(counted, fault)
    done = ana.push()
    assert failed
    assert done.seq == Remote(place).read_state().root.seq == 1
    assert len(done.refs) == 1
    assert ana.push().refs == []


def test_another_push_between_an_unanswered_swap_and_the_question_does_not_hide_it(
    ana: Person, people: People, location: Location, counted: CountingBackend
) -> None:
    ana.commit("a", content(1))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    ana.commit("b", content(2))
    raced: list[str] = []

    def fault(name: Request, key: str) -> Fault | None:
        if name == "compare_and_swap" and not raced:
            raced.append(key)
            return Fault(TimeoutError("no answer"), is_done=True)
        if name == "read_versioned" and len(raced) == 1:
            raced.append(key)
            ben.pull()
            ben.commit("c", content(3))
            ben.push()
        return None

    ana.wrap = lambda _backend: FaultBackend(counted, fault)
    done = ana.push()
    assert len(raced) == 2
    assert len(done.refs) == 1
    ana.wrap = lambda _backend: counted
    ana.pull()
    assert ana.versions() == ben.versions()
    assert len(ana.versions()) == 3


def test_an_interrupted_push_goes_on_behind_the_packs_that_are_there(
    ana: Person, counted: CountingBackend, place: LocalBackend
) -> None:
    ana.commit("a", content(1, 3_000_000))
    fail = True

    def fault(name: Request, key: str) -> Fault | None:
        return Fault(OSError(28, "no space there")) if fail and key.startswith("index/") else None

    ana.wrap = lambda _backend: FaultBackend(counted, fault)
    with pytest.raises(OSError, match="no space there"):
        ana.push()
    packs = {key for key, _ in place.list("packs/")}
    assert packs
    fail = False
    counted.counts.bytes_written = 0
    waits: list[float] = []
    pace = Pace(1, clock=lambda: 0.0, wait=lambda _ended, seconds: waits.append(seconds))
    assert len(push(ana.repo, "origin", ["main"], author="ana", wrap=ana.wrap, pace=pace).refs) == 1
    assert {key for key, _ in place.list("packs/")} == packs
    assert counted.counts.bytes_written < 100_000
    # A limit of the rate is one of what is sent.
    assert not waits


def test_a_pack_that_was_lost_since_is_sent_again(
    ana: Person, counted: CountingBackend, place: LocalBackend, people: People, location: Location
) -> None:
    ana.commit("a", content(1, 300_000))
    fail = True

    def fault(name: Request, key: str) -> Fault | None:
        return Fault(OSError(28, "no space there")) if fail and key.startswith("index/") else None

    ana.wrap = lambda _backend: FaultBackend(counted, fault)
    with pytest.raises(OSError, match="no space there"):
        ana.push()
    for key, _ in list(place.list("packs/")):
        place.delete(key)
    fail = False
    ana.push()
    ben = people("ben")
    ben.clone(location, contents=True)
    assert ben.read("a") == content(1, 300_000)


def test_what_was_not_committed_does_not_leave_the_machine(ana: Person, place: LocalBackend) -> None:
    """A commit of some paths stores the rest of the working layer in the same packs."""
    ana.write("open", content(1))
    ana.write("private", content(2))
    commit(ana.repo, ana.overlay, "some", "ana", selection=Selection(Rules(), [b"open"]))
    mine = b"".join(path.read_bytes() for path in (ana.path / "packs" / "data").glob("*/*.pack"))
    assert content(1)[:1000] in mine
    assert content(2)[:1000] in mine
    ana.push()
    sent = b"".join(place.read(key) for key, _ in place.list("packs/"))
    assert content(1)[:1000] in sent
    assert content(2)[:1000] not in sent


def test_a_name_of_a_newest_version_is_seen_at_once(ana: Person) -> None:
    version = ana.commit("a", content(1))
    ana.push()
    assert ana.repo.refs.get("remotes/origin/main") == version.id


@pytest.mark.slow
def test_many_pushers_at_once_lose_nothing(people: People, ana: Person, location: Location) -> None:
    ana.commit("first", content(0))
    ana.push()
    pushers = [people(f"p{number}") for number in range(6)]
    for person in pushers:
        person.clone(location)

    def work(number: int) -> None:
        person = pushers[number]
        for turn in range(5):
            person.commit(f"p{number}", content(100 * number + turn, 2000))
            while True:
                try:
                    person.push()
                except (PushRefused, TokenMismatch):
                    person.pull()
                    continue
                break

    together(len(pushers), work)
    ana.pull()
    assert {ana.read(f"p{number}") for number in range(6)} == {content(100 * number + 4, 2000) for number in range(6)}
    histories = []
    for person in pushers:
        person.pull()
        histories.append(person.versions())
    assert all(history == ana.versions() for history in histories)
    made = {version.commit.message for version in ancestors(ana.repo.store, [ana.versions()[-1]])}
    assert made >= {f"p{number}: p{number}" for number in range(6)}


def test_a_branch_is_removed_if_its_versions_are_known_and_have_another_name(
    ana: Person, people: People, location: Location, place: LocalBackend
) -> None:
    first = ana.commit("a", content(1))
    ana.push()
    create_branch(ana.repo, "side", first, author="ana")
    ana.push(["side"])
    ben = people("ben")
    ben.clone(location)
    create_branch(ben.repo, "side", first, author="ben")
    with ben.repo.open_overlay("side") as own:
        own.write(own.mknod(1, b"mine", 0o644, 0, 0, 0).ino, 0, b"mine")
        commit(ben.repo, own, "mine", "ben")
    ben.push(["side"])
    with pytest.raises(PushRefused, match="not here"):
        ana.push([], removed=["side"])
    ana.fetch()
    with pytest.raises(Conflict, match="no other branch"):
        ana.push([], removed=["side"])
    with pytest.raises(NotFound, match="no branch 'other'"):
        ana.push([], removed=["other"])
    before = place.read("root")
    protect(ben.repo, BRANCHES + "side", author="ben", on=True)
    ben.push(["side"])
    with pytest.raises(Conflict, match="protected"):
        ana.push([], removed=["side"], force=True)
    protect(ben.repo, BRANCHES + "side", author="ben", on=False)
    ben.push(["side"])
    assert decode_root(before).refs == decode_root(place.read("root")).refs
    done = ana.push([], removed=["side"], force=True)
    assert [(ref.name, ref.new) for ref in done.refs] == [("branches/side", None)]
    assert list(decode_root(place.read("root")).refs) == ["branches/main"]
    assert list(ana.repo.refs.list("remotes/")) == [("remotes/origin/main", first.id)]
    assert [ref.new for ref in ben.fetch().refs] == [None]
    ben.push(["side"])
    assert ana.fetch().refs[0].new_number == 2
