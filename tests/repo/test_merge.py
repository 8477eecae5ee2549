"""Goal: a merge is one version with two parents, or stands in the working layer until its conflicts are decided."""

from __future__ import annotations

import pytest

from support.lines import TEXT, Lines
from support.repositories import Repositories
from support.trees import picture_of_version, write_file
from vfs.errors import Conflict, InvalidInput
from vfs.history.merge_contents import parse_keys
from vfs.overlay.layer_nodes import ROOT_INO
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit, publish
from vfs.repo.merge import MergeResult, Preference, abort_merge, merge
from vfs.repo.merge_conflicts import UnresolvedConflicts, resolve_conflicts, unresolved
from vfs.repo.merge_state import merge_state
from vfs.repo.protection import protect
from vfs.repo.repository import Repository
from vfs.repo.restore import restore
from vfs.store.refs.refs import Protected


@pytest.fixture
def lines(repositories: Repositories) -> Lines:
    return Lines(repositories)


def test_what_both_changed_is_one_version_with_two_parents(lines: Lines) -> None:
    theirs = lines.on_exp({b"t": TEXT.replace(b"one", b"ONE"), b"new/n": b"n", b"gone": None})
    theirs = lines.on_exp({b"new/m": b"m"})
    ours = lines.on_main({b"t": TEXT + b"four\n", b"d/y": b"Y"})
    version = lines.merge(message="both", meta=[("acc", "0.9")]).version
    assert version is not None
    assert (version.commit.number, version.commit.parents) == (3, (ours.id, theirs.id))
    assert (version.commit.message, version.commit.meta) == ("both", (("acc", "0.9"),))
    wanted = {b"t": b"ONE\ntwo\nthree\nfour\n", b"d/x": b"x" * 5000, b"d/y": b"Y", b"bin": b"\0" * 100,
              b"new/n": b"n", b"new/m": b"m"}  # fmt: skip
    assert lines.picture() == wanted
    assert lines.overlay.is_clean()
    assert lines.repo.head() == version
    assert [each.name for each in lines.repo.versions()] == ["v3", "v2", "v1"]
    lines.reopen()
    assert lines.picture() == wanted


def test_what_each_side_has_renamed_otherwise_has_both_names_and_the_merge_says_so(lines: Lines) -> None:
    lines.on_exp({b"d/x": None, b"e/x": b"x" * 5000})
    lines.on_main({b"d/x": None, b"z": b"x" * 5000, b"bin": b"\0ours"})
    done = lines.merge()
    assert done.version is not None
    assert done.divergent_renames == [(b"d/x", b"z", b"e/x")]
    assert lines.picture().keys() >= {b"z", b"e/x"}


def test_a_merge_is_a_version_also_where_this_side_has_done_nothing(lines: Lines) -> None:
    theirs = lines.on_exp({b"new": b"n"})
    version = lines.merge().version
    assert version is not None
    assert (version.commit.number, version.commit.parents) == (2, (lines.base.id, theirs.id))
    assert version.commit.root == theirs.commit.root
    assert version.commit.time_ns > theirs.commit.time_ns
    assert lines.merge() == MergeResult(None, None)


def test_a_merge_needs_a_clean_working_layer_and_a_branch_that_may_move(lines: Lines) -> None:
    lines.on_exp({b"new": b"n"})
    write_file(lines.overlay, b"mine", b"uncommitted")
    with pytest.raises(Conflict, match="uncommitted changes, which the merge would replace"):
        lines.merge()
    restore(lines.repo, lines.overlay, lines.base, discard=True)
    protect(lines.repo, "branches/main", author="a")
    with pytest.raises(Protected):
        lines.merge()
    assert lines.repo.head() == lines.base


def in_conflict(lines: Lines) -> MergeResult:
    """Begins a merge with a conflict of each sort, and a change that is none."""
    lines.on_exp({b"t": TEXT.replace(b"two", b"zwei"), b"bin": b"\0theirs", b"d/x": b"X", b"new": b"n"})
    lines.on_main({b"t": TEXT.replace(b"two", b"deux"), b"bin": b"\0ours", b"d/x": None})
    return lines.merge()


def paths(lines: Lines) -> list[bytes]:
    state = merge_state(lines.repo, "main")
    assert state is not None
    return [conflict.path for conflict in unresolved(lines.overlay, state)]


def test_a_merge_with_conflicts_waits_in_the_working_layer_also_over_a_restart(lines: Lines) -> None:
    result = in_conflict(lines)
    assert result.version is None
    assert result.state is not None
    assert [(conflict.path, conflict.kind) for conflict in result.state.conflicts] == [
        (b"bin", "content"),
        (b"d/x", "deleted"),
        (b"t", "content"),
    ]
    for _ in range(2):
        picture = lines.picture()
        assert picture[b"new"] == b"n"
        assert picture[b"bin"] == b"\0ours"
        assert picture[b"d/x"] == b"X"
        assert b"<<<<<<< ours (v2)\ndeux\n||||||| base" in (picture[b"t"] or b"")
        assert paths(lines) == [b"bin", b"d/x", b"t"]
        with pytest.raises(UnresolvedConflicts, match="bin, d/x, t"):
            commit(lines.repo, lines.overlay, "", "a")
        with pytest.raises(Conflict, match="the merge of 'exp' is not finished"):
            lines.merge()
        lines.reopen()


def test_conflicts_are_decided_by_editing_and_by_taking_a_side(lines: Lines) -> None:
    in_conflict(lines)
    theirs = lines.repo.resolve("exp")
    write_file(lines.overlay, b"t", b"one\ntwo twice\nthree\n")
    assert paths(lines) == [b"bin", b"d/x"]
    resolve_conflicts(lines.repo, lines.overlay, [b"bin"], "theirs")
    with pytest.raises(InvalidInput, match="no conflict at new"):
        resolve_conflicts(lines.repo, lines.overlay, [b"new"], "ours")
    resolve_conflicts(lines.repo, lines.overlay, [b"d"], "ours")
    assert paths(lines) == []
    lines.reopen()
    version = commit(lines.repo, lines.overlay, "", "a").version
    assert version.commit.message == "Merge exp"
    assert version.commit.parents == (lines.repo.resolve("v2").id, theirs.id)
    wanted = {b"t": b"one\ntwo twice\nthree\n", b"bin": b"\0theirs", b"d/y": b"y", b"gone": b"g", b"new": b"n"}
    files = {path: data for path, data in picture_of_version(lines.repo.store, version).items() if data is not None}
    assert files == wanted
    assert merge_state(lines.repo, "main") is None
    assert not (lines.repo.path / "work" / "main" / "merge").exists()
    assert lines.merge() == MergeResult(None, None)


def test_calling_a_path_resolved_leaves_it_as_it_is(lines: Lines) -> None:
    in_conflict(lines)
    resolve_conflicts(lines.repo, lines.overlay, [], "resolved")
    version = commit(lines.repo, lines.overlay, "", "a").version
    assert b"<<<<<<<" in (picture_of_version(lines.repo.store, version)[b"t"] or b"")


def test_taking_the_side_that_deleted_all_leaves_no_empty_directory(lines: Lines) -> None:
    lines.on_exp({b"d/x": None, b"d/y": None})
    with lines.repo.open_overlay("exp") as overlay:
        overlay.rmdir(ROOT_INO, b"d")
        commit(lines.repo, overlay, "all", "b")
    lines.on_main({b"d/x": b"changed"})
    lines.merge()
    resolve_conflicts(lines.repo, lines.overlay, [], "theirs")
    assert lines.overlay.find(b"d") is None


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_preference_decides_what_does_not_merge(lines: Lines, side: str) -> None:
    lines.on_exp({b"t": TEXT.replace(b"two", b"zwei"), b"bin": b"\0theirs", b"new": b"n"})
    lines.on_main({b"t": TEXT.replace(b"two", b"deux"), b"bin": b"\0ours"})
    version = lines.merge(preference=Preference(side)).version  # type: ignore[arg-type]
    assert version is not None
    picture = picture_of_version(lines.repo.store, version)
    assert picture[b"bin"] == b"\0" + side.encode()
    assert picture[b"t"] == TEXT.replace(b"two", b"deux" if side == "ours" else b"zwei")
    assert picture[b"new"] == b"n"


def test_a_preference_for_a_path_leaves_the_others_to_be_decided(lines: Lines) -> None:
    lines.on_exp({b"t": TEXT.replace(b"two", b"zwei"), b"bin": b"\0theirs"})
    lines.on_main({b"t": TEXT.replace(b"two", b"deux"), b"bin": b"\0ours"})
    lines.merge(preference=Preference("theirs", [b"bin"]))
    assert paths(lines) == [b"t"]
    assert lines.picture()[b"bin"] == b"\0theirs"


def test_an_abandoned_merge_leaves_nothing_behind(lines: Lines) -> None:
    before = lines.picture()
    in_conflict(lines)
    head = lines.repo.head()
    write_file(lines.overlay, b"t", b"half decided")
    abort_merge(lines.repo, lines.overlay, "a")
    assert lines.overlay.is_clean()
    assert lines.repo.head() == head
    wanted = before | {b"t": TEXT.replace(b"two", b"deux"), b"bin": b"\0ours"}
    del wanted[b"d/x"]
    assert lines.picture() == wanted
    assert merge_state(lines.repo, "main") is None
    lines.reopen()
    assert lines.picture() == wanted
    with pytest.raises(Conflict, match="no merge is under way"):
        abort_merge(lines.repo, lines.overlay, "a")


def test_no_import_comes_between_while_a_merge_is_unfinished(lines: Lines) -> None:
    in_conflict(lines)
    head = lines.repo.head()
    assert head is not None
    with pytest.raises(Conflict, match="not finished"):
        publish(lines.repo, lines.overlay, lines.base.id, head.id)


def test_tables_merge_by_the_key_that_is_named(lines: Lines) -> None:
    table = b"id,label\n1,cat\n2,dog\n"
    lines.on_main({b"l.csv": table})
    create_branch(lines.repo, "labels", lines.repo.resolve("latest"), author="a")
    with lines.repo.open_overlay("labels") as overlay:
        write_file(overlay, b"l.csv", b"id,label\n1,lion\n2,dog\n3,bee\n")
        theirs = commit(lines.repo, overlay, "m", "b").version
    lines.on_main({b"l.csv": b"id,label\n2,wolf\n1,cat\n"})
    result = merge(lines.repo, lines.overlay, "labels", theirs, "a", keys=parse_keys("id:*.csv"))
    assert result.state is None
    assert lines.picture()[b"l.csv"] == b"id,label\n2,wolf\n3,bee\n1,lion\n"


def test_hard_links_are_links_after_a_merge(lines: Lines) -> None:
    with lines.repo.open_overlay("exp") as overlay:
        with overlay.opened(b"t") as attr:
            assert attr is not None
            overlay.link(attr.ino, ROOT_INO, b"t2")
        commit(lines.repo, overlay, "linked", "b")
    lines.on_main({b"d/y": b"Y"})
    assert lines.merge().version is not None
    first, second = lines.overlay.find(b"t"), lines.overlay.find(b"t2")
    assert first is not None
    assert second is not None
    assert (first.ino, first.nlink) == (second.ino, 2)


def test_two_lines_that_merge_each_other_crosswise_agree(lines: Lines) -> None:
    repo: Repository = lines.repo
    lines.on_exp({b"theirs": b"1"})
    lines.on_main({b"ours": b"1"})
    exp, main = repo.resolve("exp"), repo.resolve("main")
    assert merge(repo, lines.overlay, "exp", exp, "a").version is not None
    with repo.open_overlay("exp") as overlay:
        assert merge(repo, overlay, "main", main, "b").version is not None
    lines.on_exp({b"later": b"2"})
    assert lines.merge().version is not None
    assert {b"theirs", b"ours", b"later"} <= set(lines.picture())
