"""Every name that the layout builds is parsed as what it was built from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.model.layout import (
    BRANCHES,
    TAGS,
    VERSIONS,
    AtRange,
    AtVersion,
    Back,
    Digits,
    Listed,
    Lists,
    Moment,
    MountPath,
    Newest,
    Number,
    RefName,
    Revision,
    branch_path,
    file_of,
    history_of,
    is_numbered,
    is_surely_a_version,
    join_range,
    marked,
    number_of,
    number_text,
    parse_mount_path,
    parse_revision,
    ref_name_objection,
    split_range,
    split_steps,
    unmarked,
)

names = st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"/\0"))
plain = names.filter(lambda name: not name.startswith(b"@"))
texts = plain.filter(lambda name: b".." not in name and not name.endswith(b".") and not name.startswith(b"."))
ref_names = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="~"), min_size=1, max_size=20
).filter(lambda name: not ref_name_objection(name))
moments = st.sampled_from(
    ["2026-02-03", "2026-02-03T04:05", "2026-02-03 04:05:06.789", "2026-02-03T04:05Z", "2026-02-03 04:05 +01:00"]
)
starts = st.one_of(
    st.builds(Number, st.integers(1, 10**18 - 1)),
    st.just(Newest()),
    st.builds(Digits, st.text("0123456789abcdef", min_size=8, max_size=64)),
    st.builds(Moment, moments),
    st.builds(RefName, ref_names),
)
revisions: st.SearchStrategy[Revision] = st.one_of(starts, st.builds(Back, starts, st.integers(0, 10**18 - 1)))
chosen = st.one_of(
    st.just(Lists()),
    st.builds(Lists, st.sampled_from([VERSIONS, TAGS, BRANCHES])),
    st.builds(Listed, st.sampled_from([VERSIONS, TAGS, BRANCHES]), names),
    st.builds(AtVersion, texts),
    st.builds(AtRange, texts, st.one_of(st.just(b""), texts), st.one_of(st.just(b""), names)),
)


def _can_go_on(path: MountPath) -> bool:
    # Below `@` and its lists, and below a range itself, the next name is part of what is chosen.
    is_open = isinstance(path.chosen, Lists) or (isinstance(path.chosen, AtRange) and not path.chosen.part)
    starts_marked = path.chosen is None and path.rest[:1] and path.rest[0].startswith(b"@")
    return not ((is_open and path.rest) or starts_marked)


paths = st.builds(MountPath, st.one_of(st.none(), chosen), st.lists(names, max_size=4).map(tuple)).filter(_can_go_on)


@given(revisions)
def test_a_text_that_names_a_version_is_parsed_as_it_was_built(revision: Revision) -> None:
    assert parse_revision(str(revision)) == revision


@given(st.text(max_size=30))
def test_any_text_says_something_and_says_the_same_when_it_is_built_again(text: str) -> None:
    said = parse_revision(text)
    assert parse_revision(str(said)) == said


@given(paths)
def test_a_path_in_a_mount_is_parsed_as_it_was_built(path: MountPath) -> None:
    assert parse_mount_path(path.names()) == path


@given(st.lists(st.one_of(names, st.sampled_from([b"@", b"@v1", b"@a..@b", b"@a..", b"branches"])), max_size=5))
def test_any_path_in_a_mount_keeps_its_names(names: list[bytes]) -> None:
    path = parse_mount_path(names)
    again = parse_mount_path(path.names())
    assert again == path
    assert list(path.names()[len(path.names()) - len(path.rest) :]) == list(path.rest)


@given(texts, st.one_of(st.just(b""), texts))
def test_a_range_is_split_as_it_was_joined(first: bytes, second: bytes) -> None:
    assert split_range(unmarked(join_range(first, second))) == (first, second)
    assert split_range(first) is None


def test_a_mark_alone_is_no_end_of_a_range() -> None:
    assert split_range(b"v1..@") == (b"v1", b"@")
    assert split_range(b"@v1..v2") == (b"@v1", b"v2")


@given(names, st.integers(1, 10**18 - 1))
def test_small_names_come_back(name: bytes, number: int) -> None:
    assert unmarked(marked(name)) == name
    assert file_of(history_of(name)) == name
    assert is_numbered(number_text(number))
    assert number_of(number_text(number)) == number


@pytest.mark.parametrize("text", [b"v0", b"v01", b"V1", b"v", b"v1 ", "v\u0661".encode(), b"\xff"])
def test_a_noncanonical_number_is_none(text: bytes) -> None:
    assert not is_numbered(text)


def test_branches_are_found_in_paths() -> None:
    path = parse_mount_path([*branch_path("side").split(b"/"), b"a", b"b"])
    assert (path.branch, path.position) == (b"side", b"a/b")
    assert parse_mount_path([b"@", b"tags", b"side", b"a"]).branch == b""
    assert parse_mount_path([b"a", b"@v1"]).position == b"a/@v1"


@pytest.mark.parametrize(
    ("text", "split"),
    [("v3~", ("v3", 1)), ("v3~2~", ("v3", 3)), ("v3~~~", ("v3", 3)), ("v3", None), ("~2", None), ("a~b~1", ("a~b", 1))],
)
def test_steps_back_are_added_up(text: str, split: tuple[str, int] | None) -> None:
    assert split_steps(text) == split


@pytest.mark.parametrize(
    "name", ["latest", "HEAD", "head", "tags", "a/b", "a@b", "a..b", "v1", "V12", "deadbeef", "2026-01"]
)
def test_what_means_something_else_names_no_tag(name: str) -> None:
    assert ref_name_objection(name)


def test_a_name_like_a_version_is_no_path() -> None:
    assert all(map(is_surely_a_version, ["v0", "v3", "latest", "latest~", "v3~2~1"]))
    assert not any(map(is_surely_a_version, ["v", "v3a", "data", "latest.csv", ""]))
