"""Goal: every way to name a version finds the right one, and nothing else has two meanings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.engine import ROOT_ENTRY, Engine, engine, move
from vfs.api.hints import hint_text
from vfs.errors import InvalidInput
from vfs.history.revision import (
    AmbiguousVersion,
    UnknownVersion,
    check_ref_name,
    head,
    resolve,
)
from vfs.history.time_expressions import parse_moment
from vfs.history.walk import ancestors, first_parents
from vfs.model.ids import CommitId, commit_id
from vfs.model.nodes import encode_commit
from vfs.model.objects import Commit
from vfs.store.object_writer import ObjectWriter

NS = 1_000_000_000
NOON = 1_793_534_400 * NS
"""2026-11-01T12:00:00Z"""


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "repo") as made:
        yield made


def grow(parts: Engine, times: list[int], branch: str = "main") -> list[CommitId]:
    """Makes versions with these times and returns their commits."""
    made: list[CommitId] = []
    for number, time_ns in enumerate(times, 1):
        old = made[-1] if made else b""
        made.append(parts.commit(number, old, time_ns=time_ns))
        parts.refs.move(move(f"branches/{branch}", old, made[-1]))
    return made


def test_a_version_is_found_by_number_latest_id_and_branch(parts: Engine) -> None:
    made = grow(parts, [NOON, NOON + 1, NOON + 2])
    for text, number in {
        "v1": 1,
        "@v2": 2,
        "latest": 3,
        "@latest": 3,
        "HEAD": 3,
        "main": 3,
        made[0].hex(): 1,
        made[1].hex()[:8]: 2,
        made[1].hex()[:8].upper(): 2,
    }.items():
        found = resolve(parts.refs, parts.store, text, "main")
        assert (found.id, found.name) == (made[number - 1], f"v{number}")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2026-11-01", 3),
        ("2026-11-02", 4),
        ("2027-01-01", 4),
        ("2026-11-01T12:00", 2),
        ("2026-11-01T12:00:00", 1),
        ("2026-11-01T12:00:59", 2),
        ("2026-11-01T12:01Z", 3),
    ],
)
def test_a_date_is_the_last_version_up_to_the_end_of_what_it_states(parts: Engine, text: str, number: int) -> None:
    made = grow(parts, [NOON, NOON + 59 * NS, NOON + 60 * NS, NOON + 86_400 * NS])
    assert resolve(parts.refs, parts.store, text, "main").id == made[number - 1]


def test_dates_that_no_calendar_has_are_no_dates() -> None:
    assert parse_moment("2026-02-30") is None
    assert parse_moment("2026-11-01T24:00") is None
    assert parse_moment("2026-11") is None
    assert parse_moment("1970-01-01") == 86_400 * NS - 1


def test_a_tag_is_found_and_does_not_hide_a_number(parts: Engine) -> None:
    made = grow(parts, [1, 2])
    parts.refs.move(move("tags/paper", b"", made[0]))
    assert resolve(parts.refs, parts.store, "@paper", "main").id == made[0]


@pytest.mark.parametrize("text", ["", "@", "v0", "v3", "v01", "nope", "deadbeef", "1999-01-01", "a/b", "v1x", "\n"])
def test_what_names_nothing_is_refused_with_a_hint(parts: Engine, text: str) -> None:
    grow(parts, [NOON, NOON])
    with pytest.raises(UnknownVersion) as caught:
        resolve(parts.refs, parts.store, text, "main")
    assert hint_text(caught.value.hint)


def test_the_hint_names_similar_names(parts: Engine) -> None:
    made = grow(parts, [1])
    parts.refs.move(move("tags/baseline", b"", made[0]))
    with pytest.raises(UnknownVersion) as caught:
        resolve(parts.refs, parts.store, "basline", "main")
    assert "baseline" in hint_text(caught.value.hint)


def test_without_a_version_the_hint_is_to_commit(parts: Engine) -> None:
    assert head(parts.refs, parts.store, "main") is None
    with pytest.raises(UnknownVersion) as caught:
        resolve(parts.refs, parts.store, "latest", "main")
    assert "vfs commit" in hint_text(caught.value.hint)


def twins() -> tuple[Commit, Commit]:
    """Returns two commits whose ids begin with the same eight hex digits."""
    found: dict[bytes, Commit] = {}
    for number in range(1 << 20):
        made = Commit(1, (), ROOT_ENTRY, b"", number, "a", "m")
        other = found.setdefault(commit_id(encode_commit(made))[:4], made)
        if other is not made:
            return other, made
    raise AssertionError("two of a million ids share 32 bits, or the hash is none")


def test_digits_of_several_commits_are_ambiguous_until_there_are_enough(parts: Engine) -> None:
    ids: list[CommitId] = []
    with ObjectWriter(parts.store) as writer:
        ids.extend(writer.put_commit(made) for made in twins())
        writer.flush()
    for made in ids:
        parts.refs.move(move(f"tags/{made.hex()}", b"", made))
    digits = ids[0].hex()[:8]
    with pytest.raises(AmbiguousVersion) as caught:
        resolve(parts.refs, parts.store, digits, "main")
    longer = caught.value.message.split(": ")[1].split(", ")
    assert all(name.startswith(digits) for name in longer)
    assert {resolve(parts.refs, parts.store, name, "main").id for name in longer} == set(ids)


@pytest.mark.parametrize("name", ["baseline", "paper_v1", "v1.2", "exp-3", "2026Q1", "größe", "abc", "face"])
def test_ordinary_names_can_be_tags(name: str) -> None:
    check_ref_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *["", "v1", "V12", "v007", "deadbeef", "DEADBEEF01", "2026-11-01", "2026-11", "latest", "HEAD", "a/b", "a@b"],
        *["a b", "a\nb", "-x", ".x", "a..b", "x" * 101, "versions", "a\\b", "a\u202eb", "a\0"],
    ],
)
def test_names_with_another_meaning_cannot_be_tags(name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a name"):
        check_ref_name(name)


def test_first_parents_go_back_to_the_first_version(parts: Engine) -> None:
    made = grow(parts, [1, 2, 3])
    assert [version.id for version in first_parents(parts.store, made[-1])] == made[::-1]


def test_ancestors_come_once_and_never_before_their_descendants(parts: Engine) -> None:
    made = grow(parts, [5, 5, 5])
    assert [version.id for version in ancestors(parts.store, [made[1], made[2]])] == made[::-1]


@pytest.mark.parametrize(
    ("text", "number"),
    [("latest~1", 4), ("latest~", 4), ("HEAD~2", 3), ("v3~2", 1), ("@v5~1~2", 2), ("main~~", 3), ("latest~0", 5)],
)
def test_a_version_is_found_by_how_many_there_are_after_it(parts: Engine, text: str, number: int) -> None:
    made = grow(parts, [1, 2, 3, 4, 5])
    assert resolve(parts.refs, parts.store, text, "main").id == made[number - 1]


def test_counting_back_from_another_branchs_version_follows_its_own_parents(parts: Engine) -> None:
    made = grow(parts, [1, 2, 3])
    side = parts.commit(3, made[1], time_ns=9)
    parts.refs.move(move("tags/side", b"", side))
    assert resolve(parts.refs, parts.store, "side~1", "main").id == made[1]
    assert resolve(parts.refs, parts.store, f"{side.hex()[:8]}~2", "main").id == made[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("latest~3", "latest is v3"),
        ("v1~1", "v1 is v1"),
        ("v2~99999999999999999", "v2 is v2"),
        ("HEAD^", "HEAD~1"),
        ("no~1", "'no'"),
    ],
)
def test_counting_back_too_far_or_from_nothing_is_refused(parts: Engine, text: str, words: str) -> None:
    grow(parts, [1, 2, 3])
    with pytest.raises(UnknownVersion) as caught:
        resolve(parts.refs, parts.store, text, "main")
    assert words in f"{caught.value.message} {hint_text(caught.value.hint)}"


def test_no_new_name_can_look_like_counting_back(parts: Engine) -> None:
    with pytest.raises(InvalidInput, match="~"):
        check_ref_name("paper~1")
    made = grow(parts, [1])
    parts.refs.move(move("tags/paper~1", b"", made[0]))
    assert resolve(parts.refs, parts.store, "paper~1", "main").id == made[0]
