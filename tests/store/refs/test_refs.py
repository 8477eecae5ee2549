"""Refs: names and numbers follow the log, for every process, after every crash."""

from __future__ import annotations

import errno
import math
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.engine import ROOT_ENTRY, Crash, Engine, StopAfter, engine, move
from support.memory import memory_directory
from vfs.errors import Corrupt, InvalidInput
from vfs.model.ids import CommitId, chunk_id
from vfs.model.objects import Commit
from vfs.store.lmdb_tables import discard
from vfs.store.refs.ancestry import AncestryRow, ancestor_at, row_of
from vfs.store.refs.operation import Note, NoteChange, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import OtherLogArgs
from vfs.store.refs.operation_log import LOG_KEY, DamagedLog
from vfs.store.refs.refs import REFS_TABLES, RefMoved, Refs

MAIN = "branches/main"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path / "repo") as opened:
        yield opened


def grow(parts: Engine, count: int, *, branch: str = "main", base: list[CommitId] | None = None) -> list[CommitId]:
    """Commits versions after `base` and returns the branch's history."""
    history = list(base or ())
    name = f"branches/{branch}"
    current = parts.refs.get(name) or b""
    for _ in range(count):
        number = len(history) + 1
        made = parts.commit(number, history[-1] if history else b"", time_ns=number * 10, message=branch)
        parts.refs.move(move(name, current, made, work=(branch, number)))
        history.append(made)
        current = made
    return history


def positions(refs: Refs, commit_id: CommitId) -> list[tuple[str, int]]:
    """Returns (branch, number) of every place that a commit has on the branches."""
    branches = [name.removeprefix("branches/") for name, _ in refs.list("branches/")]
    found = ((branch, refs.number_on(branch, commit_id)) for branch in branches)
    return [(branch, number) for branch, number in found if number is not None]


def rows(parts: Engine) -> dict[str, list[tuple[bytes, bytes]]]:
    return {name: list(parts.tables.scan(name)) for name in REFS_TABLES}


def test_an_empty_repository_has_no_names(parts: Engine) -> None:
    assert parts.refs.get(MAIN) is None
    assert list(parts.refs.list()) == []
    assert parts.refs.version_count("main") == 0
    assert parts.refs.version("main", 1) is None
    assert parts.refs.version_at("main", 1 << 62) is None
    assert list(parts.refs.operations()) == []
    assert parts.refs.consumed_generation("main") == 0


def test_versions_are_numbered_found_by_time_and_by_digits(parts: Engine) -> None:
    history = grow(parts, 12)
    refs = parts.refs
    assert refs.get(MAIN) == history[-1]
    assert refs.version_count("main") == 12
    assert [refs.version("main", number) for number in range(14)] == [None, *history, None]
    assert refs.version("main", 1 << 70) is None
    for time_ns in range(125):
        number = min(time_ns // 10, 12)
        assert refs.version_at("main", time_ns) == (history[number - 1] if number else None)
    assert positions(refs, history[4]) == [("main", 5)]
    assert list(refs.by_prefix(history[4].hex()[:8])) == [history[4]]
    assert list(refs.by_prefix(history[4].hex()[:9].upper())) == [history[4]]
    assert list(refs.by_prefix("zz")) == []
    assert set(refs.by_prefix("")) == set(history)
    assert refs.consumed_generation("main") == 12
    assert [operation.seq for operation in refs.operations()] == list(range(12, 0, -1))


def test_branches_and_tags_are_listed_and_removed(parts: Engine) -> None:
    history = grow(parts, 3)
    parts.refs.move(move("branches/mainly", b"", history[1]))
    parts.refs.move(move("tags/paper", b"", history[0]))
    grow(parts, 2, branch="mainly", base=history[:2])
    assert [name for name, _ in parts.refs.list("branches/")] == ["branches/main", "branches/mainly"]
    assert [name for name, _ in parts.refs.list("branches/mainl")] == ["branches/mainly"]
    assert positions(parts.refs, history[0]) == [("main", 1), ("mainly", 1)]
    assert (parts.refs.version_count("main"), parts.refs.version_count("mainly")) == (3, 4)
    parts.refs.move(move("tags/paper", history[0], b""))
    head = parts.refs.get("branches/mainly")
    assert head is not None
    parts.refs.move(move("branches/mainly", head, b""))
    assert [name for name, _ in parts.refs.list()] == ["branches/main"]
    assert parts.refs.version_count("mainly") == 0
    assert parts.refs.version_count("main") == 3
    assert positions(parts.refs, head) == []
    assert list(parts.refs.by_prefix(head.hex())) == [head]


def test_a_branch_that_moves_back_and_on_is_numbered_anew(parts: Engine) -> None:
    history = grow(parts, 8)
    parts.refs.move(move(MAIN, history[-1], history[3]))
    assert parts.refs.version_count("main") == 4
    assert positions(parts.refs, history[6]) == []
    other = parts.commit(5, history[3], time_ns=60, message="other")
    parts.refs.move(move(MAIN, history[3], other))
    assert [parts.refs.version("main", number) for number in range(1, 7)] == [*history[:4], other, None]
    parts.refs.move(move(MAIN, other, history[-1]))
    assert [parts.refs.version("main", number) for number in range(1, 9)] == history


def test_many_branches_share_a_long_history_at_the_cost_of_a_row_each(parts: Engine) -> None:
    made: dict[CommitId, Commit] = {}
    history: list[CommitId] = []
    for number in range(1, 3001):
        commit_id = chunk_id(b"%d" % number)
        made[CommitId(commit_id)] = Commit(number, tuple(history[-1:]), ROOT_ENTRY, b"", number * 10, "a", "m")
        history.append(CommitId(commit_id))
    read: list[CommitId] = []

    def get_commit(commit_id: CommitId) -> Commit:
        read.append(commit_id)
        return made[commit_id]

    refs = Refs(parts.tables, parts.log, get_commit)
    refs.move(move(MAIN, b"", history[-1]))
    before = parts.tables.count("lineage")
    for number in range(1, 201):
        read.clear()
        refs.move(move(f"branches/b{number}", b"", history[number * 13]))
        assert len(read) == 1
    assert parts.tables.count("lineage") == before == 3000
    asked: list[bytes] = []
    get = parts.tables.get

    def counting(commit_id: bytes) -> AncestryRow | None:
        asked.append(commit_id)
        return row_of(get, commit_id)

    for number in (1, 2, 1500, 2047, 2048, 2999, 3000):
        asked.clear()
        found = ancestor_at(counting, history[-1], lambda row, number=number: row.number > number)  # type: ignore[misc]
        assert found is not None
        assert found[0] == history[number - 1]
        # Two rows a step: the commit's own and its skip pointer's.
        assert len(asked) <= 4 * math.log2(3000) + 4
    assert refs.version("b200", 2601) == history[2600]
    assert refs.version("b200", 2602) is None
    assert refs.version_at("b200", 20_005) == history[1999]
    assert refs.number_on("b7", history[91]) == 92
    assert refs.number_on("b7", history[92]) is None


def test_a_ref_that_moved_meanwhile_is_a_conflict_and_nothing_happens(parts: Engine) -> None:
    history = grow(parts, 2)
    before = parts.backend.read(LOG_KEY)
    other = parts.commit(3, history[1], message="other")
    both = Operation(refs=(RefChange("tags/t", "", other.hex()), RefChange(MAIN, history[0].hex(), other.hex())))
    for operation in (both, move(MAIN, b"", other), move("tags/none", other, b"")):
        with pytest.raises(RefMoved) as caught:
            parts.refs.move(operation)
        assert caught.value.errno == errno.EAGAIN
    assert parts.backend.read(LOG_KEY) == before
    assert parts.refs.get("tags/t") is None


@pytest.mark.parametrize(
    "name",
    ["main", "branches/", "branches/a/b", "branches/.x", "tags/a\n", "heads/x", "tags/" + "x" * 256, "tags/\udc80"],
)
def test_a_name_that_would_not_be_a_file_name_is_refused(parts: Engine, name: str) -> None:
    [made] = grow(parts, 1)
    with pytest.raises(InvalidInput):
        parts.refs.move(move(name, b"", made))
    with pytest.raises(InvalidInput):
        parts.refs.move(Operation(refs=(RefChange(MAIN, made.hex(), "xyz"),)))


def test_a_ref_cannot_move_to_a_missing_object(parts: Engine) -> None:
    before = parts.log.size()
    with pytest.raises(Corrupt):
        parts.refs.move(move(MAIN, b"", bytes(32)))
    assert parts.log.size() == before
    assert parts.refs.get(MAIN) is None


def test_tables_made_again_from_the_log_are_the_same(parts: Engine) -> None:
    history = grow(parts, 5)
    parts.refs.move(move("tags/t", b"", history[1]))
    parts.refs.move(move(MAIN, history[4], history[2]))
    grown = rows(parts)
    parts.refs.rebuild()
    assert rows(parts) == grown


def test_a_deleted_index_comes_back_with_all_names(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        history = grow(parts, 5)
        grown = rows(parts)
    discard(tmp_path / "repo" / "index")
    with engine(tmp_path / "repo") as parts:
        parts.index.rebuild(parts.backend, parts.store.compression)
        assert parts.refs.get(MAIN) == history[-1]
        assert rows(parts) == grown


@settings(max_examples=25)
@given(st.data())
def test_any_moves_give_the_same_answers_as_a_list(data: st.DataObject) -> None:
    commits: dict[CommitId, tuple[CommitId, ...]] = {}
    with memory_directory() as directory, engine(directory / "repo") as parts:
        made: dict[CommitId, Commit] = {}
        refs = Refs(parts.tables, parts.log, made.__getitem__)
        head: CommitId | None = None
        for turn in range(data.draw(st.integers(1, 8))):
            if data.draw(st.booleans()) and commits:
                new = data.draw(st.sampled_from(sorted(commits)))
            else:
                past = data.draw(st.sampled_from(sorted(commits.values()))) if commits else ()
                number = len(past) + 1
                new = CommitId(bytes([turn + 1]) * 32)
                made[new] = Commit(number, past[-1:], ROOT_ENTRY, b"", number * 10, "a", "m")
                commits[new] = (*past, new)
            refs.move(move(MAIN, head or b"", new))
            head = new
            history = commits[head]
            assert refs.version_count("main") == len(history)
            assert tuple(refs.version("main", number) for number in range(1, len(history) + 2)) == (*history, None)
            for commit_id in commits:
                expected = [("main", history.index(commit_id) + 1)] if commit_id in history else []
                assert positions(refs, commit_id) == expected
            assert refs.version_at("main", len(history) * 10 + 5) == head


def test_damage_in_the_middle_of_the_log_costs_that_operation_alone(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        history = grow(parts, 5)
        parts.refs.move(move("tags/t", b"", history[1]))
        starts = [offset for offset, _ in parts.log.read().operations]
    log = tmp_path / "repo" / LOG_KEY
    data = bytearray(log.read_bytes())
    data[starts[2] + 40] ^= 1
    log.write_bytes(data)
    discard(tmp_path / "repo" / "index")
    with engine(tmp_path / "repo") as parts:
        parts.index.rebuild(parts.backend, parts.store.compression)
        # The third commit's own line is gone; its place is known from its child.
        assert [parts.refs.version("main", number) for number in range(1, 7)] == [*history, None]
        assert parts.refs.get("tags/t") == history[1]
        assert [operation.seq for operation in parts.refs.operations()] == [6, 5, 4, 2, 1]
        assert [damage.offset for damage in parts.refs.damage] == [starts[2]]
        sixth = parts.commit(6, history[-1])
        assert parts.refs.move(move(MAIN, history[-1], sixth)).seq == 7


def test_a_commit_that_cannot_be_read_leaves_all_others_their_names(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        history = grow(parts, 6)

        def read(commit_id: CommitId) -> Commit:
            if commit_id == history[damaged]:
                raise Corrupt("damaged")
            return parts.store.get_commit(commit_id)

        for damaged in range(6):
            refs = Refs(parts.tables, parts.log, read)
            refs.rebuild()
            assert refs.get(MAIN) == history[-1]
            expected = history if damaged < 5 else history[:5]
            assert [refs.version("main", number) for number in range(1, 7)][: len(expected)] == expected
            assert refs.version_at("main", 45) in history[:4]


def test_a_log_that_lost_its_end_is_an_error_until_it_is_accepted(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        history = grow(parts, 3)
        last = parts.log.read().operations[-1][0]
    log = tmp_path / "repo" / LOG_KEY
    log.write_bytes(log.read_bytes()[:last])
    with engine(tmp_path / "repo") as parts:
        with pytest.raises(DamagedLog):
            parts.refs.get(MAIN)
        with pytest.raises(DamagedLog):
            parts.refs.move(move(MAIN, history[2], history[1]))
        parts.refs.rebuild()
        assert parts.refs.get(MAIN) == history[1]


def test_hostile_lines_name_nothing(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        [made] = grow(parts, 1)
        for change in (
            RefChange("branches/../../etc", "", made.hex()),
            RefChange("branches/x", "", "not hex"),
            RefChange("tags/" + "y" * 5000, "", made.hex()),
            RefChange("", "", made.hex()),
        ):
            parts.log.append(Operation(seq=2, refs=(change,)))
        assert [name for name, _ in parts.refs.list()] == [MAIN]
        assert len(parts.refs.damage) == 4


def test_a_crash_at_every_step_of_a_move_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    stopped: set[str] = set()
    for steps in range(20):
        directory = tmp_path / f"repo{steps}"
        with engine(directory) as parts:
            old = grow(parts, 2)
            new = parts.commit(3, old[-1])
        stop = StopAfter(steps)
        with engine(directory, on_step=stop) as parts:
            try:
                parts.refs.move(move(MAIN, old[-1], new, work=("main", 7)))
            except Crash:
                stopped.add(stop.stopped_at)
        with engine(directory) as parts:
            head = parts.refs.get(MAIN)
            assert head in (old[-1], new)
            moved = head == new
            assert moved == (len(list(parts.refs.operations())) == 3)
            assert parts.refs.consumed_generation("main") == (7 if moved else 2)
            assert parts.refs.version_count("main") == (3 if moved else 2)
            # An operation may follow, whatever the crash left.
            parts.refs.move(move("tags/after", b"", old[0]))
            assert not parts.refs.damage
        if not stop.stopped_at:
            assert moved
            break
    assert stopped == {"append log", "fsync log", "commit index"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_tables_that_cannot_be_written_hide_nothing_of_what_the_log_has(tmp_path: Path, error: int) -> None:
    full = False

    def step(name: str) -> None:
        if full and name == "commit index":
            raise OSError(error, "full")

    with engine(tmp_path / "repo", on_step=step) as parts:
        history = grow(parts, 3)
        second = parts.commit(4, history[-1])
        third = parts.commit(5, second)
        full = True
        assert parts.refs.move(move(MAIN, history[-1], second, work=("main", 9))).seq == 4
        # Answered from memory, of the past and of what came since.
        for _ in range(2):
            assert parts.refs.get(MAIN) == second
            assert parts.refs.version("main", 4) == second
            assert parts.refs.version("main", 2) == history[1]
            assert parts.refs.consumed_generation("main") == 9
            assert [operation.seq for operation in parts.refs.operations()] == [4, 3, 2, 1]
            assert not parts.refs.damage
        assert parts.refs.move(move(MAIN, second, third)).seq == 5
        assert parts.refs.get(MAIN) == third
        full = False
        fourth = parts.commit(6, third)
        parts.refs.move(move(MAIN, third, fourth))
        assert parts.refs.get(MAIN) == fourth
        assert parts.refs.version_count("main") == 6
        grown = rows(parts)
        parts.refs.rebuild()
        assert rows(parts) == grown


def test_another_failure_of_the_tables_is_reported(tmp_path: Path) -> None:
    failing = False

    def step(name: str) -> None:
        if failing and name == "commit index":
            raise OSError(errno.EIO, "broken")

    with engine(tmp_path / "repo", on_step=step) as parts:
        [first] = grow(parts, 1)
        second = parts.commit(2, first)
        failing = True
        parts.refs.move(move(MAIN, first, second))
        with pytest.raises(OSError, match="broken"):
            parts.refs.get(MAIN)


def _tag(directory: str, first: str, prefix: str) -> None:
    with engine(Path(directory)) as parts:
        for number in range(20):
            parts.refs.move(move(f"tags/{prefix}{number}", b"", bytes.fromhex(first)))
            race = parts.refs.get("tags/race")
            try:
                parts.refs.move(move("tags/race", race or b"", b"" if race else bytes.fromhex(first)))
            except RefMoved:
                continue


def test_processes_move_refs_one_after_the_other_and_see_each_other(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        [first] = grow(parts, 1)
        spawn = multiprocessing.get_context("spawn")
        others = [
            spawn.Process(target=_tag, args=(str(tmp_path / "repo"), first.hex(), prefix)) for prefix in ("a", "b")
        ]
        for other in others:
            other.start()
        for other in others:
            other.join()
            assert other.exitcode == 0
        names = {name for name, _ in parts.refs.list("tags/")} - {"tags/race"}
        assert names == {f"tags/{prefix}{number}" for prefix in "ab" for number in range(20)}
        seqs = [operation.seq for operation in parts.refs.operations()]
        assert seqs == list(range(len(seqs), 0, -1))
        grown = rows(parts)
        parts.refs.rebuild()
        assert rows(parts) == grown
        assert not parts.refs.damage


@pytest.mark.parametrize(
    "operation",
    [
        Operation(settings=(SettingChange("current", "", "../../elsewhere"),)),
        Operation(settings=(SettingChange("current", "", "inodes"),)),
        Operation(settings=(SettingChange("current", "", "x" * 201),)),
        Operation(settings=(SettingChange("", "", "x"),)),
        Operation(refs=(RefChange("branches/" + "x" * 201, "", "00" * 32),)),
        Operation(refs=(RefChange("branches/.hidden", "", "00" * 32),)),
        Operation(work=("../elsewhere", 1)),
        Operation(work=("main", -1)),
        Operation(work=("main", 2**63)),
        Operation(work=("", 1)),
        Operation(seq=2**64),
        Operation(seq=-1),
        Operation(time_ns=2**70),
        Operation(time_ns=-(2**70)),
        Operation(args=OtherLogArgs(base="no id")),
        Operation(args=OtherLogArgs(before="00" * 32, branch="../elsewhere")),
        Operation(args=OtherLogArgs(before="00" * 32)),
        Operation(notes=(NoteChange("no id", None, Note("x")),)),
    ],
)
def test_an_operation_that_cannot_be_is_damage_in_the_log_and_refused_as_a_move(
    tmp_path: Path, operation: Operation
) -> None:
    with engine(tmp_path / "repo") as parts:
        grow(parts, 1)
        before = rows(parts)
        if operation.seq == 0:
            with pytest.raises(InvalidInput):
                parts.refs.move(operation)
        parts.log.append(operation)
        assert list(parts.refs.list("tags/")) == []
        assert parts.refs.setting("current") == ""
        after = rows(parts)
        assert {name: after[name] for name in after if name != "refs-meta"} == {
            name: before[name] for name in before if name != "refs-meta"
        }
        [damage] = parts.refs.damage
        assert "cannot be" in damage.reason
        # What is right goes on.
        parts.refs.move(move("tags/after", b"", parts.refs.get(MAIN) or b""))


def test_a_line_nested_without_end_is_damage(tmp_path: Path) -> None:
    with engine(tmp_path / "repo") as parts:
        grow(parts, 1)
        text = b'{"seq":2,"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        with open(tmp_path / "repo" / LOG_KEY, "ab") as file:
            file.write(chunk_id(text).hex()[:16].encode() + b" " + text + b"\n")
        assert parts.refs.get(MAIN) is not None
        assert len(parts.refs.damage) == 1
