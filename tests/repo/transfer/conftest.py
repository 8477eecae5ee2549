"""People who share one remote, in a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.sharing import Person
from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location, parse_location
from vfs.backend.wrappers import CountingBackend
from vfs.repo.fsck import fsck

People = Callable[[str], Person]


@pytest.fixture
def place(tmp_path: Path) -> LocalBackend:
    """Returns what the remote keeps its objects in."""
    (tmp_path / "remote").mkdir()
    return LocalBackend(tmp_path / "remote")


@pytest.fixture
def counted(place: LocalBackend) -> CountingBackend:
    """Returns the remote's backend, as all people see it, with counts."""
    return CountingBackend(place)


@pytest.fixture
def location(tmp_path: Path) -> Location:
    """Returns the address of a remote."""
    return parse_location(str(tmp_path / "remote"))


@pytest.fixture
def people(tmp_path: Path, counted: CountingBackend) -> Iterator[People]:
    """Makes people, each with a place for a repository; checks every byte of their repositories at the end."""
    made: list[Person] = []

    def make(name: str) -> Person:
        made.append(Person(name, tmp_path / name, wrap=lambda _backend: counted))
        return made[-1]

    yield make
    for person in made:
        report = fsck(person.repo, read_data=True)
        person.close()
        assert report.is_clean, report.damage


@pytest.fixture
def ana(people: People, location: Location) -> Person:
    """Returns the person who has made the remote."""
    person = people("ana").init()
    person.add_remote(location)
    return person
