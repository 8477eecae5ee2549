"""What a recording says of a program that ran on one version."""

from __future__ import annotations

from vfs.cli.runs.observed_runs import read_set
from vfs.history.read_set import ReadSet
from vfs.repo.runs.run_event_file import Event


def test_opened_files_and_listed_directories_are_the_read_set() -> None:
    events = [Event("named"), Event("version-read", b"a"), Event("version-list", b"d"), Event("end")]
    assert read_set(iter(events)) == ReadSet(frozenset({b"a"}), frozenset({b"d"}))


def test_what_is_not_complete_or_not_of_a_version_is_not_known() -> None:
    assert read_set(iter([Event("version-read", b"a")])) is None
    assert read_set(iter([])) is None
    for event in (Event("read", b"a"), Event("list", b""), Event("write", b"a"), Event("note", b"outside")):
        assert read_set(iter([event, Event("end")])) is None
