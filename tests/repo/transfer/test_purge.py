"""Purges, forgotten versions and notes travel; nothing that was purged comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.sharing import Person, content
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location
from vfs.errors import Conflict, NotFound
from vfs.model.ids import CommitId
from vfs.remote.format import decode_root
from vfs.repo.branches import create_branch
from vfs.repo.describe import describe
from vfs.repo.fsck import fsck
from vfs.repo.retention.purge import purge
from vfs.repo.tags import create_tag
from vfs.repo.transfer.fetch import PurgeNotPushed
from vfs.repo.transfer.missing_objects import Missing
from vfs.repo.transfer.ref_moves import PushRefused
from vfs.store.trees.directories import resolve_path

People = Callable[[str], Person]
SECRET = content(7, 120_000)


def has_secret(person: Person) -> bool:
    """Says whether any version that a ref leads to has the file."""
    walk = Missing(person.repo.store, lambda _object_id: False, lambda _commit_id: False, person.path)
    for _, commit_id in person.repo.refs.list():
        walk.add(commit_id)
    return any(_has(person, commit_id) for commit_id in walk.commits)


def _has(person: Person, commit_id: CommitId) -> bool:
    try:
        resolve_path(person.repo.store, person.repo.store.get_commit(commit_id).root, b"secret")
    except NotFound:
        return False
    return True


def scrub(person: Person) -> None:
    """Purges the file."""
    person.overlay.close()
    purge(person.repo, [b"secret"], author=person.name, undo_s=0)
    person.reopen()


@pytest.fixture
def ben(ana: Person, people: People, location: Location) -> Person:
    """Returns a clone of three versions, with a tag, all with the secret."""
    ana.write("secret", SECRET)
    create_tag(ana.repo, "first", ana.commit("a", content(1)), author="ana")
    ana.commit("b", content(2))
    ana.commit("c", content(3))
    ana.push(tags=True)
    person = people("ben")
    person.clone(location)
    return person


def test_a_purge_travels_and_a_clone_is_told(ana: Person, ben: Person, place: LocalBackend) -> None:
    scrub(ana)
    done = ana.push()
    assert {ref.name for ref in done.refs} == {"branches/main", "tags/first"}
    root = decode_root(place.read("root"))
    assert len(root.replaced) == 3
    assert ben.fetch().purged == 3
    assert ben.fetch().purged == 0
    # Until its branch is moved, it stands on contents that are nowhere: this is no damage.
    report = fsck(ben.repo, read_data=True)
    assert report.is_clean, report.damage
    assert any("purged at a remote" in note for note in report.notes)
    ben.pull()
    assert ben.versions() == ana.versions()
    assert not has_secret(ben)
    ana.sweep(thorough=True)
    assert sum(size for _, size in place.list("packs/")) < 200_000
    ben.commit("d", content(4))
    ben.push()
    ana.pull()
    assert ana.versions() == ben.versions()


def test_a_pull_after_a_purge_brings_nothing_back(ana: Person, ben: Person) -> None:
    del ben
    scrub(ana)
    before = ana.versions()
    ana.pull()
    ana.fetch()
    assert ana.versions() == before
    assert not has_secret(ana)
    ana.push()
    ana.fetch()
    assert not has_secret(ana)


def test_an_old_clone_cannot_push_purged_versions_back(ana: Person, ben: Person, place: LocalBackend) -> None:
    create_branch(ben.repo, "mine", ben.repo.resolve("v2"), author="ben")
    create_tag(ben.repo, "kept", ben.repo.resolve("v3"), author="ben")
    scrub(ana)
    ana.push()
    before = place.read("root")
    with pytest.raises(PushRefused, match="purged"):
        ben.push(["mine"])
    with pytest.raises(PushRefused):
        ben.push(tags=True)
    ben.commit("d", content(4))
    with pytest.raises(PushRefused):
        ben.push()
    assert place.read("root") == before


def test_own_versions_behind_purged_ones_are_made_again(ana: Person, ben: Person) -> None:
    ben.commit("d", content(4))
    scrub(ana)
    ana.push()
    with pytest.raises(Conflict, match="purged at the remote"):
        ben.pull()
    ben.pull(rebase=True)
    ben.push()
    ana.pull()
    assert ana.read("d") == content(4)
    assert not has_secret(ana)


def test_versions_that_came_meanwhile_are_purged_too(ana: Person, ben: Person) -> None:
    ben.commit("d", content(4))
    ben.push()
    scrub(ana)
    with pytest.raises(PushRefused):
        ana.push()
    with pytest.raises(PurgeNotPushed):
        ana.fetch()
    assert not has_secret(ana)
    ana.fetch(purged=True)
    scrub(ana)
    assert not has_secret(ana)
    ana.pull()
    assert ana.read("d") == content(4)
    ana.push()
    ben.pull()
    assert ben.versions() == ana.versions()
    assert not has_secret(ben)


def test_notes_travel_both_ways_and_the_last_pusher_decides(ana: Person, ben: Person) -> None:
    second = ana.repo.resolve("v2")

    def message(person: Person) -> str | None:
        note = person.repo.refs.note(second.id)
        return note.message if note is not None else None

    describe(ana.repo, second, author="ana", message="better")
    ana.push()
    ben.push()
    ben.fetch()
    assert message(ben) == "better"
    describe(ben.repo, second, author="ben", message="best")
    ben.push()
    describe(ana.repo, second, author="ana", message="other")
    ana.fetch()
    assert message(ana) == "other"
    ana.push()
    ben.fetch()
    assert message(ben) == "other"
