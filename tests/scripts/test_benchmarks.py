"""The benchmark's own parts: the same data in every run, multiples that point the right way."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import contest, counted_mount, documents, loading, machine, session, tree, writing
from benchmarks.bench import Bench
from benchmarks.data import (
    KIB,
    MIB,
    Change,
    Sizes,
    Text,
    document,
    document_path,
    image,
    image_path,
    insert_bytes,
    table_path,
)
from benchmarks.document import BEGIN, DOCUMENT, END, replaced, unpadded
from benchmarks.peers import ALL, Borg, Git, Peer
from benchmarks.plans import FULL, IN_FULL, OURS, PARTS, QUICK, THEIRS, Plan, estimate
from benchmarks.progress import Progress
from benchmarks.readers import READERS, TOGETHER, read_together
from benchmarks.report import Figure, Report, Row, comparison, growth_table, multiple
from benchmarks.subjects import Mounted, ReadOnly
from benchmarks.tables import duration, shown, table
from benchmarks.targets import OWN, READ_ONLY, TARGETS, Outcome, Target, outcomes
from benchmarks.workloads import DOCUMENT_READS, READS, WRITES, search_documents
from vfs.fuse.request_handlers import VfsOperations


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def test_data_is_the_same_on_every_machine() -> None:
    found = [digest(image(7)), digest(document(7)), digest(Text(7).take(100_000))]
    assert found == ["93e09ee2fa997194", "9f8e0d816681ce17", "d289669a230b0311"]


def test_data_has_the_sizes_that_the_documents_state() -> None:
    assert all(10 * KIB <= len(image(index)) <= 150 * KIB for index in range(50))
    assert 800 < sum(len(document(index)) for index in range(100)) / 100 < 1300
    assert len(Text(1).take(MIB + 1)) == MIB + 1


def test_a_change_touches_one_image_in_a_hundred_and_two_tables() -> None:
    sizes = Sizes.scaled(1)
    change = Change.of(3, sizes)
    assert len(change.images) == 200
    assert change.appended_table != change.inserted_table
    assert change == Change.of(3, sizes)
    assert change.images != Change.of(4, sizes).images


def test_inserting_keeps_what_stood_before_and_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"left" * 1000 + b"right" * 800)
    insert_bytes(path, b"-new-")
    assert path.read_bytes() == b"left" * 1000 + b"-new-" + b"right" * 800
    assert list(tmp_path.iterdir()) == [path]


def test_a_multiple_above_one_means_faster_whichever_way_a_unit_counts() -> None:
    slow, fast = Figure("walk", "walk", "ext4", "s", False, [4.0]), Figure("walk", "walk", "vfs", "s", False, [2.0])
    assert multiple(fast, slow) == "2.00"
    low, high = Figure("read", "read", "ext4", "MB/s", True, [100]), Figure("read", "read", "vfs", "MB/s", True, [300])
    assert multiple(high, low) == "3.00"
    assert multiple(high, None) == ""


def test_a_report_shows_medians_side_by_side_with_this_filesystem_last() -> None:
    figures = [
        Figure("walk", "walk", "vfs", "s", False, [3.0, 1.0, 2.0]),
        Figure("walk", "walk", "ext4", "s", False, [1.0]),
    ]
    assert comparison(figures).splitlines() == [
        "| workload | ext4 |  vfs | vfs / ext4 |",
        "|----------|-----:|-----:|-----------:|",
        "| walk, s  | 1.00 | 2.00 |       0.50 |",
    ]


def test_of_other_programs_the_best_is_the_one_to_compare_with() -> None:
    figures = [
        Figure("walk", "walk", "borg", "s", False, [3.0]),
        Figure("walk", "walk", "restic", "s", False, [9.0]),
        Figure("walk", "walk", "vfs", "s", False, [2.0]),
        Figure("read", "read", "borg", "MB/s", True, [300.0]),
        Figure("read", "read", "restic", "MB/s", True, [500.0]),
        Figure("read", "read", "vfs", "MB/s", True, [250.0]),
    ]
    last = [line.rsplit("|", 2)[1].strip() for line in comparison(figures).splitlines()]
    assert last[0] == "vfs / best other"
    assert last[2:] == ["1.50 (borg)", "0.50 (restic)"]


def test_growth_is_shown_beside_the_smallest_size() -> None:
    figures = [
        Figure("mount", "mounting", "small", "s", False, [0.5], "growth"),
        Figure("mount", "mounting", "large", "s", False, [2.0], "growth"),
        Figure("memory", "memory", "small", "MB", False, [40.0], "growth"),
        Figure("memory", "memory", "large", "MB", False, [44.0], "growth"),
    ]
    assert growth_table(figures).splitlines()[2:] == [
        "| mounting   | 500.0 ms | x4.00 |",
        "| memory, MB |     40.0 | x1.10 |",
    ]


def test_kept_results_are_read_back_and_shown_alike(tmp_path: Path) -> None:
    report = Report("machine", "abc", "2026-01-01", 1.0, "data", 3, ["load 0.0 / 0.0"], notes=["bup: it broke"])
    report.add(Figure("walk-cold", "walk", "vfs", "s", False, [3.0, 1.0, 2.0]))
    report.add(Figure("walk-cold", "walk", "ext4", "s", False, [0.1]))
    report.seconds["tree"] = 90.0
    report.write(tmp_path)
    found = Report.read(tmp_path / "results.json")
    assert found == report
    assert found.markdown() == (tmp_path / "results.md").read_text(encoding="utf-8")
    for words in ("- bup: it broke", "tree 1.5 min", "### Saving and reading", "### Targets", "| missed |"):
        assert words in found.markdown()


def test_a_target_is_a_bound_on_the_side_that_the_unit_says() -> None:
    figures = [
        Figure("walk", "walk", "vfs", "s", False, [2.0]),
        Figure("walk", "walk", "ext4", "s", False, [1.0]),
        Figure("read", "read", "vfs", "MB/s", True, [250.0]),
        Figure("read", "read", "ext4", "MB/s", True, [500.0]),
    ]
    asked = [
        Target("a", "walk", 2, ("ext4",)),
        Target("b", "walk", 1.5, ("ext4",)),
        Target("c", "walk", 0.6, ("ext4",), as_speed=True),
        Target("d", "read", 0.4, ("ext4",)),
        Target("e", "missing", 1, ("ext4",)),
        Target("f", "read", 1, ("erofs",)),
        Target("g", "read", 1, ("ext4",), "vfs, read-only"),
    ]
    assert outcomes(figures, targets=asked) == [
        Outcome("a", "≤ 2 x ext4", "2.00 x ext4", True),
        Outcome("b", "≤ 1.5 x ext4", "2.00 x ext4", False),
        Outcome("c", "≥ 0.6 x ext4", "0.50 x ext4", False),
        Outcome("d", "≥ 0.4 x ext4", "0.50 x ext4", True),
    ]


def test_a_target_is_about_one_subject_and_one_part() -> None:
    figures = [
        Figure("create", "create", "vfs", "1/s", True, [1.0]),
        Figure("create", "create", "vfs", "1/s", True, [9.0], "writing"),
        Figure("create", "create", "vfs, read-only", "1/s", True, [6.0], "writing"),
        Figure("create", "create", "pass-through", "1/s", True, [3.0], "writing"),
    ]
    asked = [Target("create", "create", 2.5, ("pass-through",), subject, "writing") for subject in (OWN, READ_ONLY)]
    assert [found.reached for found in outcomes(figures, targets=asked)] == [
        "3.00 x pass-through",
        "2.00 x pass-through",
    ]


def test_a_small_run_has_bounds_of_its_own() -> None:
    figures = [Figure("first", "first", name, "s", False, [took]) for name, took in (("vfs", 3.0), ("ext4", 2.0))]
    asked = [Target("first", "first", 1, ("ext4",), small=2)]
    assert [found.met for scale in (0.02, 1) for found in outcomes(figures, scale, asked)] == [True, False]


def test_beside_several_others_a_target_is_about_the_best_of_them() -> None:
    figures = [
        Figure("stored", "stored", "vfs", "MB", False, [100.0]),
        Figure("stored", "stored", "borg", "MB", False, [110.0]),
        Figure("stored", "stored", "restic", "MB", False, [80.0]),
    ]
    (found,) = outcomes(figures, targets=[Target("a", "stored", 1, ("borg", "restic"))])
    assert (found.reached, found.met) == ("1.25 x borg or restic", False)


def test_of_a_read_only_mount_a_report_shows_the_multiple_of_ext4() -> None:
    figures = [
        Figure("walk", "walk", "ext4", "s", False, [1.0]),
        Figure("walk", "walk", "vfs", "s", False, [4.0]),
        Figure("walk", "walk", READ_ONLY, "s", False, [2.0]),
    ]
    assert comparison(figures).splitlines() == [
        "| workload | ext4 |  vfs | vfs, read-only | vfs / ext4 | vfs, read-only / ext4 |",
        "|----------|-----:|-----:|---------------:|-----------:|----------------------:|",
        "| walk, s  | 1.00 | 4.00 |           2.00 |       0.25 |                  0.50 |",
    ]


def test_every_target_is_about_a_row_that_a_run_makes() -> None:
    rows = [row for workload in (*READS, *DOCUMENT_READS, *WRITES) for row in workload.rows]
    rows += [contest.LATER, contest.STORED_EACH, contest.MOUNT, contest.DIFF, contest.DIFF_NEIGHBOURS]
    rows += [contest.stored_all(10), *contest.first_rows(*tree.FIRST), *contest.first_rows(*documents.FIRST)]
    rows += TOGETHER.rows
    made = {("reading", row.name) for row in rows} | {("loading", row.name) for row in loading.EPOCH_ROWS}
    made |= {("writing", row.name) for each in writing.WORKLOADS for row in each.rows}
    assert {(target.part, target.workload) for target in TARGETS} <= made
    subjects = {*ALL, "ext4", "empty", "pass-through"}
    assert all(subjects.issuperset(target.beside) for target in TARGETS)
    assert {target.subject for target in TARGETS} == {Mounted.name, ReadOnly.name}


def test_the_parts_that_a_counted_mount_wraps_are_there() -> None:
    for owner, attribute, _ in counted_mount.PARTS:
        assert callable(getattr(owner, attribute))
    for request in counted_mount.REQUESTS:
        assert callable(getattr(VfsOperations, request))


def test_an_estimate_counts_parts_repetitions_data_and_peers() -> None:
    plan = Plan(scale=0.5, repetitions=2, versions=3)
    cost = OURS["tree"]
    alone = estimate(plan, ["tree", "writing"])
    assert alone["tree"] == cost.fixed + cost.scaled / 2 + 2 * (cost.repeated + cost.repeated_scaled / 2)
    beside = estimate(Plan(0.5, 2, 3, [Borg, Git]), ["tree", "documents", "writing"])
    added = sum(THEIRS[name].seconds(0.5, 2) for name in ("borg", "git"))
    assert beside["tree"] + beside["documents"] == pytest.approx(
        alone["tree"] + OURS["documents"].seconds(0.5, 2) + added
    )
    assert beside["writing"] == alone["writing"]
    assert set(OURS) == set(PARTS)
    assert set(THEIRS) == set(ALL)


def test_a_full_run_is_planned_to_end_within_the_hour_and_a_quick_one_within_minutes() -> None:
    full = Plan(FULL.scale, FULL.repetitions, FULL.versions, list(ALL.values()))
    assert 20 * 60 < sum(estimate(full, IN_FULL).values()) < 60 * 60
    assert sum(estimate(QUICK, PARTS[:3]).values()) < 6 * 60


def test_progress_shows_the_time_left_of_the_parts() -> None:
    now = [0.0]
    progress = Progress({"tree": 100.0, "writing": 60.0}, lambda: now[0])
    assert progress.left() == 160
    progress.begin("tree")
    now[0] = 40
    assert progress.line("walk") == "0:40 elapsed, about 2:00 left  tree: walk"
    now[0] = 130
    assert progress.left() == 60
    assert progress.end() == 130
    progress.begin("writing")
    now[0] = 150
    assert progress.line("cp -r") == "2:30 elapsed, about 0:40 left  writing: cp -r"


def test_results_are_replaced_between_their_marks() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = replaced(text, "| a |\n")
    assert new == f"before\n{BEGIN}\n\n| a |\n\n{END}\nafter\n"
    assert replaced(new, "| a |\n") == new
    assert "| a |" in replaced(DOCUMENT.read_text(encoding="utf-8"), "| a |")
    with pytest.raises(ValueError, match="marks"):
        replaced("no marks", "| a |\n")
    narrow, wide = [table(["", "ext4"], [["cp -r", "7"], ["rm", figure]]) for figure in ("7", "70,000.0")]
    assert unpadded(wide) == "||ext4|\n|---|---:|\n|cp -r|7|\n|rm|70,000.0|\n"
    assert unpadded(wide).splitlines()[:3] == unpadded(narrow).splitlines()[:3]


class Broken(Peer):
    name = "broken"

    def save(self, version: int) -> None:
        raise RuntimeError("no room\n\nfor it")


def test_a_failure_of_a_peer_is_a_note_and_one_of_ours_the_end_of_a_part(tmp_path: Path) -> None:
    bench = Bench(QUICK, tmp_path, Report("m", "c", "d", 1.0, "data"), Progress({}))
    first = tmp_path / "first"
    first.mkdir()
    peer = Broken(tmp_path / "peer", first, changing=True)
    with bench.forgiving(peer, "first version") as failed:
        peer.save(1)
    assert failed == ["RuntimeError: no room for it"]
    assert bench.report.notes == ["broken: first version: RuntimeError: no room for it"]
    with pytest.raises(RuntimeError), bench.forgiving(object(), "first version"):
        peer.save(1)


class Failing:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def run(self) -> None:
        self.bench.add(Row("write", "write", "MB/s", True), {"vfs": [1.0, 3.0, 2.0]}, "writing")
        raise OSError("the disk is full")

    def close(self) -> None:
        self.bench.say("closed")


class Complete(Failing):
    def run(self) -> None:
        self.bench.add(Row("load", "load", "MB/s", True), {"vfs": [5.0]}, "loading")


def test_a_part_that_fails_keeps_what_it_found_and_lets_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(session.KINDS, "writing", (Failing,))
    monkeypatch.setitem(session.KINDS, "tree", (Complete,))
    run = session.Session(QUICK, ["writing", "tree"], tmp_path, tmp_path / "out")
    assert not run.run()
    kept = Report.read(tmp_path / "out" / "results.json")
    assert [(figure.workload, figure.median) for figure in kept.figures] == [("write", 2.0), ("load", 5.0)]
    assert kept.notes == ["writing ended early: OSError: the disk is full"]
    assert list(kept.seconds) == ["writing", "tree"]
    assert capsys.readouterr().err.count("closed") == 2


def test_readers_that_cannot_read_are_a_failure_and_no_endless_wait(tmp_path: Path) -> None:
    sizes = Sizes.scaled(0.01)
    for number in range(READERS):
        path = tmp_path / image_path(number, sizes)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    with pytest.raises(RuntimeError, match="a reader failed"):
        read_together(tmp_path, sizes)
    (tmp_path / "tables").mkdir()
    (tmp_path / table_path(0)).write_bytes(b"table")
    assert read_together(tmp_path, sizes).size == 5 * (READERS + 1)


CHILD = "import sys; held = bytearray(32 << 20); print('ready', flush=True); sys.stdin.read()"
PARENT = f"""
import subprocess, sys
held = bytearray(16 << 20)
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
child.communicate()
"""


def test_memory_and_time_of_a_process_are_those_of_its_children_too() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert machine.descendants(process.pid) == [child]
        peak = machine.MemoryWatch(process.pid).stop()
        own, theirs = machine.peak_memory(process.pid), machine.private_memory(child)
        assert theirs >= 32 << 20
        assert own + (32 << 20) <= peak <= own + machine.peak_memory(child)
        assert machine.processor_seconds(process.pid) >= machine.processor_seconds(child) > 0
        process.communicate()


def test_a_process_is_distinguished_from_children_with_the_same_words() -> None:
    forked = "import os, sys; os.fork() or sys.stdin.read() or os._exit(0); print('x', flush=True); os.wait()"
    with subprocess.Popen(
        [sys.executable, "-c", forked, "told-apart"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert machine.descendants(process.pid)
        assert machine.process_with_words(os.fsencode(os.path.basename(sys.executable)), b"told-apart") == process.pid
        process.communicate()


def test_figures_are_shown_with_three_digits() -> None:
    assert [shown(value) for value in (12345.6, 99.96, 1.234, 0.01234)] == ["12,346", "100.0", "1.23", "0.012"]
    assert [duration(value) for value in (0.0000123, 0.0123, 12.3)] == ["12 us", "12.3 ms", "12.3 s"]


def test_tables_line_up() -> None:
    assert table(["a", "bb"], [["x", "1"]]) == "| a | bb |\n|---|---:|\n| x |  1 |\n"


def test_a_search_of_small_files_reads_all_of_them(tmp_path: Path) -> None:
    sizes = Sizes.scaled(0.001)
    for index in range(sizes.documents):
        path = tmp_path / document_path(index, sizes)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document(index))
    assert search_documents(tmp_path, sizes, 1) > 0
    (tmp_path / document_path(0, sizes)).unlink()
    with pytest.raises(RuntimeError, match="read 999 files of 1000"):
        search_documents(tmp_path, sizes, 1)
