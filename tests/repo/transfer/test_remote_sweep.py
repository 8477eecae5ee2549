"""The sweep of a remote: what no ref leads to goes, and nothing else, at whichever step a process stops."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.backend.protocol import ObjectBackend
from vfs.backend.wrappers import Fault, FaultBackend, Request
from vfs.errors import Corrupt
from vfs.model.ids import CommitId
from vfs.remote.format import decode_index, decode_root, encode_root
from vfs.remote.remote import Remote, new_nonce
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.repository import Repository
from vfs.repo.transfer.missing_objects import Missing
from vfs.repo.transfer.remote_sweep import TOMBSTONE_S, sweep_remote
from vfs.store.refs.operation import BRANCHES, Operation, RefChange

People = Callable[[str], Person]
SIDE = "side"


class Stopped:
    """A backend whose user is stopped before one of its requests, while an action runs to its end."""

    def __init__(self, place: LocalBackend, step: int, action: Callable[[], object]) -> None:
        self.backend = FaultBackend(place, self._before)
        self.was_stopped = False
        self._left = step
        self._action = action

    def _before(self, _name: Request, _key: str) -> Fault | None:
        if self._left == 0:
            self.was_stopped = True
            self._action()
        self._left -= 1
        return None

    def __call__(self, _backend: ObjectBackend) -> ObjectBackend:
        return self.backend


def drop_ref(place: LocalBackend, name: str) -> None:
    """Removes a ref from a remote, as a program could."""
    remote = Remote(place)
    state = remote.read_state()
    nonce = new_nonce()
    refs = {ref: at for ref, at in state.root.refs.items() if ref != BRANCHES + name}
    root = msgspec.structs.replace(
        state.root, refs=refs, seq=state.root.seq + 1, nonce=nonce, previous=state.hash,
        chain=(*state.root.chain, nonce),
    )  # fmt: skip
    remote.swap(state, root)


def with_side(person: Person) -> None:
    """Gives a person a version on main and one on a second branch, with contents of its own."""
    first = person.commit("a", content(1))
    create_branch(person.repo, SIDE, first, author=person.name)
    with person.repo.open_overlay(SIDE) as overlay:
        ino = overlay.mknod(1, b"only there", 0o644, 0, 0, 0).ino
        overlay.write(ino, 0, content(2, 300_000))
        commit(person.repo, overlay, "side", person.name)


def keys(place: LocalBackend) -> set[str]:
    """Returns the packs and index objects that are there."""
    return {key for prefix in ("packs/", "index/") for key, _ in place.list(prefix)}


def require_whole(people: People, location: Location, name: str, *branches: str) -> None:
    """Clones all contents; the fixture checks every byte at the end."""
    person = people(name)
    person.clone(location, contents=True)
    for branch in branches:
        at = person.repo.refs.get(f"remotes/origin/{branch}")
        assert at is not None
        change = RefChange(f"{BRANCHES}{branch}", "", at.hex())
        person.repo.refs.move(Operation(time_ns=1, kind="branch", author=name, refs=(change,)))


def test_what_a_ref_leads_to_stays_and_the_rest_goes_after_the_grace(
    ana: Person, place: LocalBackend, people: People, location: Location
) -> None:
    with_side(ana)
    ana.push(["main", SIDE])
    ana.commit("b", content(3))
    ana.push()
    drop_ref(place, SIDE)
    before = keys(place)
    shown = ana.sweep(dry_run=True)
    assert keys(place) == before
    first = ana.sweep(grace_s=3600)
    assert first.retired == shown.retired > 0
    assert first.removed == 0
    assert before <= keys(place)
    done = ana.sweep()
    assert done.removed >= first.retired
    assert done.bytes_before - done.bytes_after > 250_000
    root = decode_root(place.read("root"))
    assert not root.retiring
    assert root.tombstones
    require_whole(people, location, "ben")
    assert ana.sweep().removed == 0
    root = decode_root(place.read("root"))
    assert decode_root(place.read("root")).seq == ana.sweep().seq == root.seq


def test_a_name_is_used_again_when_no_sweep_can_remove_it_any_more(ana: Person, place: LocalBackend) -> None:
    with_side(ana)
    ana.push(["main", SIDE])
    drop_ref(place, SIDE)
    ana.sweep()
    buried = set(decode_root(place.read("root")).tombstones)
    assert buried
    ana.push([SIDE])
    assert not buried & keys(place)
    later = decode_root(place.read("root")).time_ns + int((TOMBSTONE_S + 1) * 10**9)
    sweep_remote(ana.repo, "origin", author="ana", grace_s=0, wrap=ana.wrap, clock_ns=lambda: later)
    assert not buried & set(decode_root(place.read("root")).tombstones)


def test_what_an_unfinished_push_has_left_goes(ana: Person, place: LocalBackend) -> None:
    ana.commit("a", content(1))
    ana.push()
    ana.commit("b", content(2, 300_000))

    def fault(name: Request, _key: str) -> Fault | None:
        return Fault(PermissionError("no")) if name == "compare_and_swap" else None

    whole, ana.wrap = ana.wrap, lambda _backend: FaultBackend(place, fault)
    with pytest.raises(PermissionError):
        ana.push()
    ana.wrap = whole
    left = keys(place)
    assert ana.sweep(grace_s=3600).retired >= 3
    assert keys(place) >= left
    # Also a push that has sent them before.
    ana.push()
    assert ana.sweep().bytes_after > 300_000


def require_complete(person: Person, place: LocalBackend) -> None:
    """Every object that the remote's refs lead to is in a pack that it names, and that is there."""
    root = decode_root(place.read("root"))
    infos = [stored.info() for name in root.indexes for stored in decode_index(name, place.read(name.key))]
    for info in infos:
        assert place.size(info.name.key) == info.size
        assert info.name.key not in root.retiring
        assert info.name.key not in root.tombstones
    there = {stored.id for info in infos for block in info.blocks for stored in block.objects}
    walk = Missing(person.repo.store, lambda _object_id: False, lambda _commit_id: False, person.path)
    for text in root.refs.values():
        walk.add(CommitId(bytes.fromhex(text)))
    assert set(walk.objects) <= there


@pytest.mark.parametrize(
    ("before", "grace_s"),
    [
        ("nothing", 0),
        ("swept", 0),
        ("swept", 3600),
        pytest.param("nothing", 3600, marks=pytest.mark.slow),
        pytest.param("indexed", 0, marks=pytest.mark.slow),
        pytest.param("indexed", 3600, marks=pytest.mark.slow),
    ],
)
def test_sweeps_at_each_step_of_a_push(
    ana: Person, place: LocalBackend, people: People, location: Location, grace_s: float, before: str
) -> None:
    """The pusher is stopped before each of its requests in turn, while another person's sweep runs to its end."""
    ben = people("ben")
    with_side(ana)
    ana.push(["main"] if before == "nothing" else ["main", SIDE])
    ben.clone(location)
    counted = ana.wrap
    step = 0
    while True:
        if before != "nothing":
            drop_ref(place, SIDE)
        if before == "swept":
            ben.sweep(grace_s=grace_s)
        stopped = Stopped(place, step, lambda: ben.sweep(grace_s=grace_s))
        ana.wrap = stopped
        ana.push([SIDE])
        ana.wrap = counted
        require_complete(ana, place)
        # What was only retired goes now, if another sweep could take it for unneeded.
        ben.sweep()
        require_complete(ana, place)
        head = ana.repo.refs.get(BRANCHES + SIDE)
        assert head is not None
        assert decode_root(place.read("root")).refs[BRANCHES + SIDE] == head.hex()
        if not stopped.was_stopped:
            break
        if before == "nothing":
            drop_ref(place, SIDE)
            ana.sweep()
        step += 1
    assert step > 3
    require_whole(people, location, "carol", SIDE)


def test_pushes_at_each_step_of_a_sweep(ana: Person, place: LocalBackend, people: People, location: Location) -> None:
    """The sweep is stopped before each of its requests in turn, while a push of the same packs runs to its end."""
    ben = people("ben")
    with_side(ana)
    ana.push(["main", SIDE])
    ben.clone(location)
    step = 0
    while True:
        drop_ref(place, SIDE)
        stopped = Stopped(place, step, lambda: ana.push([SIDE]))
        ben.wrap = stopped
        ben.sweep()
        ben.wrap = ana.wrap
        if not stopped.was_stopped:
            break
        require_complete(ana, place)
        ben.sweep()
        require_complete(ana, place)
        step += 1
    assert step > 10
    ana.push([SIDE])
    require_whole(people, location, "carol", SIDE)


def test_a_sweep_that_was_stopped_deletes_nothing_that_came_later(
    ana: Person, place: LocalBackend, people: People, location: Location
) -> None:
    """Stopped between its tombstones and its deletions, while others sweep and push to the end."""
    ben = people("ben")
    with_side(ana)
    ana.push(["main", SIDE])
    ben.clone(location)
    drop_ref(place, SIDE)
    stopped: list[str] = []

    def fault(name: Request, key: str) -> Fault | None:
        if name == "delete" and key.startswith("packs/") and not stopped:
            stopped.append(key)
            ana.sweep()
            ana.push([SIDE])
        return None

    ben.wrap = lambda _backend: FaultBackend(place, fault)
    ben.sweep()
    assert stopped
    ben.wrap = ana.wrap
    require_whole(people, location, "carol", SIDE)


def _clone_of_small_packs(ana: Person, people: People, location: Location) -> Person:
    """Pushes 66 small packs, and clones the remote."""
    for number in range(66):
        ana.write(f"f{number}", content(number, 9000))
        ana.commit("c", content(number, 3000))
        ana.push()
    ben = people("ben")
    ben.clone(location)
    return ben


def test_packs_are_written_anew_and_clones_find_what_was_moved(
    ana: Person, place: LocalBackend, people: People, location: Location
) -> None:
    """Small packs become larger ones; a clone that was made before reads contents that it does not have yet."""
    ben = _clone_of_small_packs(ana, people, location)
    before = keys(place)
    done = ana.sweep()
    assert done.repacked >= 64
    assert len(keys(place)) < len(before) / 4
    ben.fetch()
    ben.reopen()
    assert [ben.read(f"f{number}") for number in (0, 65)] == [content(0, 9000), content(65, 9000)]
    assert [row for row in ben.repo.index.packs() if not row.is_here and row.name.key not in keys(place)] == []
    ana.commit("d", content(100))
    assert ana.push().bytes < 100_000


def test_a_reader_finds_what_a_sweep_has_moved_elsewhere(
    ana: Person, place: LocalBackend, people: People, location: Location
) -> None:
    ben = _clone_of_small_packs(ana, people, location)
    ben.reopen()
    assert ben.read("f0") == content(0, 9000)
    before = keys(place)
    assert ana.sweep().repacked >= 64
    assert not before & keys(place) & {row.name.key for row in ben.repo.index.packs() if not row.is_here}
    assert [ben.read(f"f{number}") for number in range(66)] == [content(number, 9000) for number in range(66)]
    assert {row.name.key for row in ben.repo.index.packs() if not row.is_here} <= keys(place)


def test_a_root_that_lets_anything_be_removed_is_refused(ana: Person, place: LocalBackend) -> None:
    ana.commit("a", content(1))
    ana.push()
    root = decode_root(place.read("root"))
    for key in ("root", "vfs-remote.json", "../a", "packs/data/aa/" + "b" * 32 + ".pack", "log/1"):
        for field in ("retiring", "tombstones"):
            with pytest.raises(Corrupt, match="lets a sweep remove"):
                decode_root(encode_root(msgspec.structs.replace(root, **{field: {key: 1}})))


def test_damage_ends_a_sweep_before_anything_goes(ana: Person, place: LocalBackend, people: People) -> None:
    del people
    with_side(ana)
    ana.push(["main", SIDE])
    drop_ref(place, SIDE)
    before = keys(place)
    tree = next(row for row in ana.repo.index.packs() if row.name.kind == 2)
    data = ana.repo.backend.read(tree.name.key)
    ana.repo.backend.delete(tree.name.key)
    ana.close()
    ana.repo = Repository.open(ana.path)
    with pytest.raises(Corrupt):
        ana.sweep()
    assert keys(place) == before
    ana.repo.backend.put(tree.name.key, data)
    ana.repo.close()
    ana.reopen()
