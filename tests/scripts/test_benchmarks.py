"""The benchmark's own parts: the same data in every run, multiples that point the right way."""

from __future__ import annotations

import hashlib
from pathlib import Path

from benchmarks.data import KIB, MIB, Change, Sizes, Text, document, image, insert_bytes
from benchmarks.report import Figure, Report, multiple, shown, table


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


def test_a_report_shows_medians_side_by_side_with_this_filesystem_last(tmp_path: Path) -> None:
    report = Report("machine", "abc", "2026-01-01", 1.0, "data", ["load 0.0 / 0.0"])
    report.add(Figure("walk", "walk", "vfs", "s", False, [3.0, 1.0, 2.0]))
    report.add(Figure("walk", "walk", "ext4", "s", False, [1.0]))
    report.write(tmp_path)
    lines = report.markdown().splitlines()
    assert lines[-3:] == [
        "| workload | ext4 |  vfs | vfs / ext4 |",
        "|----------|-----:|-----:|-----------:|",
        "| walk, s  | 1.00 | 2.00 |       0.50 |",
    ]
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == report.markdown()


def test_figures_are_shown_with_three_digits() -> None:
    assert [shown(value) for value in (12345.6, 99.96, 1.234, 0.01234)] == ["12,346", "100.0", "1.23", "0.012"]


def test_tables_line_up() -> None:
    assert table(["a", "bb"], [["x", "1"]]) == "| a | bb |\n|---|---:|\n| x |  1 |\n"
