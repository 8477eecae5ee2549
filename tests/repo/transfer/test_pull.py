"""Pull: published numbers stay, own versions come behind them, and an interrupted pull goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.sharing import ORIGIN, Person, content
from vfs.backend.locations import Location
from vfs.errors import Conflict
from vfs.model.objects import Version
from vfs.repo.commit import commit
from vfs.repo.merge import abort_merge, merge
from vfs.repo.transfer.pull import advance
from vfs.repo.transfer.ref_moves import PushRefused
from vfs.repo.undo import last_operation, undo
from vfs.store.refs.operation import REMOTE_REFS

People = Callable[[str], Person]


@pytest.fixture
def ben(ana: Person, people: People, location: Location) -> Person:
    ana.commit("a", content(1))
    ana.push()
    ben = people("ben")
    ben.clone(location)
    return ben


def _diverge(ana: Person, ben: Person) -> None:
    ana.commit("from ana", content(2))
    ana.push()
    ben.commit("from ben", content(3))
    ben.commit("from ben too", content(4))


def _theirs(person: Person) -> Version:
    person.fetch()
    at = person.repo.refs.get(f"{REMOTE_REFS}{ORIGIN}/main")
    assert at is not None
    return Version(at, person.repo.store.get_commit(at))


def test_a_branch_without_own_versions_follows(ana: Person, ben: Person) -> None:
    ana.commit("b", content(2))
    ana.push()
    ben.pull()
    assert ben.versions() == ana.versions()
    assert ben.read("b") == content(2)
    assert ben.overlay.is_clean()
    ben.pull()
    assert ben.versions() == ana.versions()


def test_own_versions_are_merged_behind_the_published_ones(ana: Person, ben: Person) -> None:
    _diverge(ana, ben)
    published, own = ana.versions(), ben.versions()
    made = ben.pull()
    assert made is not None
    assert ben.versions()[: len(published)] == published
    assert made.commit.parents == (published[-1], own[-1])
    assert made.name == "v3"
    assert [ben.read(name) for name in ("from ana", "from ben", "from ben too")] == [content(2), content(3), content(4)]
    ben.push()
    ana.pull()
    assert ana.versions() == ben.versions()


def test_a_rebase_makes_the_own_versions_again(ana: Person, ben: Person) -> None:
    _diverge(ana, ben)
    published = ana.versions()
    made = ben.pull(rebase=True)
    assert made is not None
    assert made.name == "v4"
    assert ben.versions()[: len(published)] == published
    assert [version.commit.message for version in ben.repo.history()][:2] == ["ben: from ben too", "ben: from ben"]
    assert [ben.read(name) for name in ("from ana", "from ben", "from ben too")] == [content(2), content(3), content(4)]
    ben.push()


def test_a_rebase_with_conflicts_changes_nothing(ana: Person, ben: Person) -> None:
    ana.commit("same", b"ana\n")
    ana.push()
    ben.commit("same", b"ben\n")
    before = ben.versions()
    with pytest.raises(Conflict, match="both changed same"):
        ben.pull(rebase=True)
    assert ben.versions() == before
    assert ben.read("same") == b"ben\n"


def test_uncommitted_changes_are_not_replaced(ana: Person, ben: Person) -> None:
    ana.commit("b", content(2))
    ana.push()
    ben.write("mine", b"not committed")
    with pytest.raises(Conflict, match="uncommitted"):
        ben.pull()
    assert ben.read("mine") == b"not committed"
    ben.overlay.unlink(1, b"mine")


def test_a_pull_that_was_cut_off_before_its_merge_goes_on(ana: Person, ben: Person) -> None:
    _diverge(ana, ben)
    own = ben.versions()[-1]
    done = advance(ben.repo, ben.overlay, _theirs(ben), "ben")
    assert done.own is not None
    assert done.own.id == own
    ben.reopen()
    ben.pull()
    assert ben.read("from ben") == content(3)
    assert ben.repo.head().commit.parents[1] == own  # type: ignore[union-attr]


def test_a_pull_is_undone(ana: Person, ben: Person) -> None:
    _diverge(ana, ben)
    before = ben.versions()
    advance(ben.repo, ben.overlay, _theirs(ben), "ben")
    undo(ben.repo, ben.overlay, last_operation(ben.repo), "ben")
    assert ben.versions() == before
    assert ben.read("from ben") == content(3)
    ben.pull()
    assert ben.read("from ana") == content(2)


def test_a_cancelled_merge_of_a_pull_goes_back_to_before_it(ana: Person, ben: Person) -> None:
    ana.commit("text", b"one\n")
    ana.push()
    ben.pull()
    ana.commit("text", b"ana\n")
    ana.push()
    own = ben.commit("text", b"ben\n")
    before = ben.versions()

    def pull() -> None:
        ben.fetch()
        theirs = ben.repo.refs.get(f"{REMOTE_REFS}{ORIGIN}/main")
        assert theirs is not None
        done = advance(ben.repo, ben.overlay, Version(theirs, ben.repo.store.get_commit(theirs)), "ben")
        assert done.own is not None
        assert merge(ben.repo, ben.overlay, "own", done.own, "ben").state is not None

    pull()
    assert b"<<<<" in ben.read("text")
    abort_merge(ben.repo, ben.overlay, "ben")
    assert ben.versions() == before
    assert ben.overlay.base is not None
    assert ben.overlay.base.id == own.id
    assert ben.overlay.is_clean()
    assert ben.read("text") == b"ben\n"
    with pytest.raises(PushRefused):
        ben.push()
    undo(ben.repo, ben.overlay, last_operation(ben.repo), "ben")
    assert b"<<<<" in ben.read("text")
    assert ben.versions() == ana.versions()
    ben.reopen()
    abort_merge(ben.repo, ben.overlay, "ben")
    assert ben.versions() == before
    pull()
    ben.reopen()
    ben.write("text", b"both\n")
    commit(ben.repo, ben.overlay, "both", "ben")
    ben.push()
    ana.pull()
    assert ana.versions() == ben.versions()
    assert ana.read("text") == b"both\n"
