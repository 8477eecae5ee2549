"""`vfs diff`: what it lists, sums up, finds moved and says of the inside of files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import vfs
from support.commands import Run, commands_on


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    (directory / "images").mkdir(parents=True)
    for number in range(4):
        (directory / "images" / f"{number}.png").write_bytes(bytes([number]) * 3000)
    (directory / "labels.csv").write_bytes(b"file,label\n1.png,cat\n2.png,cta\n")
    (directory / "notes.txt").write_bytes(b"one\ntwo\nthree\n")
    return directory


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command in a repository with two versions."""
    call = commands_on(tmp_path / "repo", capsys, monkeypatch)
    call("import", str(data), "-m", "first")
    (data / "images").rename(data / "pictures")
    (data / "labels.csv").write_bytes(b"file,label\n1.png,cat\n2.png,cat\n")
    (data / "notes.txt").rename(data / "read me.txt")
    (data / "new").mkdir()
    (data / "new" / "a\nb").write_bytes(b"n")
    call("import", str(data), "-m", "second")
    return call


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_what_moved_is_listed_once_and_the_inside_of_files_follows(run: Run) -> None:
    assert run("diff", "v1", "v2", status=1).splitlines() == [
        "M  labels.csv               31 B",
        "A  new/                     1 file, 1 B",
        "R  images/ → pictures/      4 files, 11.7 KiB",
        "R  notes.txt → read me.txt  14 B",
        "2 added, 1 modified, 2 renamed; 11.8 KiB → 11.8 KiB",
        "",
        "labels.csv",
        "  2 rows: 1 changed (by file)",
        "  ~ 2.png: label cta → cat",
    ]


def test_a_range_means_its_two_ends_and_an_open_one_the_working_layer(run: Run) -> None:
    assert run("diff", "v1..v2", status=1) == run("diff", "v1", "v2", status=1)
    assert run("diff", "@v1..@v2", "labels.csv", "--name-only", status=1) == "labels.csv\n"
    assert run("diff", "v2..", "labels.csv") == ""
    run("diff", "..v2", status=2)
    run("restore", "v1", "labels.csv")
    assert run("diff", "v2..", "labels.csv", status=1).splitlines()[-1] == "  ~ 2.png: label cat → cta"
    assert run("diff", "v2..", "new") == ""
    assert run("diff", status=1).splitlines()[0] == "M  labels.csv  31 B"


def test_without_renames_and_details_it_is_a_plain_list(run: Run) -> None:
    lines = run("diff", "v1", "v2", "--no-renames", "--no-detail", status=1).splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["D", "images/"],
        ["M", "labels.csv"],
        ["A", "new/"],
        ["D", "notes.txt"],
        ["A", "pictures/"],
        ["A", "read"],
    ]


def test_stat_sums_up_by_directory(run: Run) -> None:
    assert run("diff", "v1", "v2", "--stat", status=1).splitlines() == [
        "./         1 modified, 1 renamed",
        "new/       1 added; 0 B → 1 B",
        "pictures/  4 renamed",
        "2 added, 1 modified, 2 renamed; 11.8 KiB → 11.8 KiB",
    ]
    (_, new, _) = objects(run("diff", "v1", "v2", "--stat", "--json", status=1))
    assert (new["directory"], new["added"], new["new_bytes"]) == ("new", 1, 1)


def test_names_alone_are_safe_for_people_and_exact_for_programs(run: Run) -> None:
    assert "new/a\\nb" in run("diff", "v1", "v2", "--name-only", status=1).splitlines()
    exact = run("diff", "v1", "v2", "--name-only", "-z", status=1)
    assert exact.split("\0") == ["labels.csv", "new", "new/a\nb", "pictures", "read me.txt", ""]
    run("diff", "v1", "v2", "-z", status=2)


def test_json_has_the_old_path_and_on_request_the_content(run: Run) -> None:
    plain = {each["path"]: each for each in objects(run("diff", "v1", "v2", "--json", status=1))}
    assert plain["pictures"]["from"] == "images"
    assert plain["pictures"]["similarity"] == 1
    assert "detail" not in plain["labels.csv"]
    deep = {each["path"]: each for each in objects(run("diff", "v1", "v2", "--json", "--detail", status=1))}
    assert deep["labels.csv"]["detail"]["rows"]["changed"] == 1


def test_long_details_are_cut_unless_asked_for(run: Run, data: Path) -> None:
    for name in "abcdefghijkl":
        (data / f"{name}.txt").write_bytes(b"old\n" * 50)
    run("import", str(data), "-m", "third")
    for name in "abcdefghijkl":
        (data / f"{name}.txt").write_bytes(b"new\n" * 50)
    run("import", str(data), "-m", "fourth")
    short = run("diff", "v3", "v4", status=1)
    assert "… 71 lines more: --full shows them" in short
    assert "\nl.txt\n" not in short
    assert "More files changed inside" in short
    full = run("diff", "v3", "v4", "--full", status=1)
    assert full.count("+new") == 12 * 50
    assert "…" not in full


def test_show_names_what_moved(run: Run) -> None:
    assert "R  images/ → pictures/" in run("show", "v2")


def test_long_lines_are_cut_with_a_mark_unless_all_is_asked_for(run: Run, data: Path) -> None:
    for text in ("x" * 200_000, "x" * 200_000 + "y"):
        (data / "long.txt").write_text(text)
        run("import", str(data), "-m", "long")
    lines = run("diff", "v3", "v4", "long.txt", status=1).splitlines()
    assert max(map(len, lines)) < 600
    assert lines[-1] == "  … long lines are cut: --full shows them whole"
    assert all(line.endswith("x…") for line in lines if line.startswith(("  -x", "  +x")))
    assert max(map(len, run("diff", "v3", "v4", "long.txt", "--full", status=1).splitlines())) > 200_000


def test_what_differs_is_never_all_the_same(run: Run, data: Path) -> None:
    content = random.Random(1).randbytes(8 << 20)
    (data / "a.bin").write_bytes(content)
    run("import", str(data), "-m", "large")
    (data / "a.bin").unlink()
    (data / "b.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run("import", str(data), "-m", "moved")
    assert "99% the same" in run("diff", "v3", "v4", "--no-detail", status=1)
    (change,) = objects(run("diff", "v3", "v4", "--json", status=1))
    assert change["similarity"] < 1


def test_a_report_is_a_page_or_markdown(run: Run) -> None:
    page = run("diff", "v1", "v2", "--html", status=1)
    assert page.startswith("<!doctype html>")
    assert len(page.encode()) < 2_000_000
    assert "label cta → cat" in page
    markdown = run("diff", "v1", "v2", "--md", status=1)
    assert "| R | images → pictures/ |" in markdown
    assert "v1 → v2: second" in markdown
    assert "~ 2.png: label cta → cat" in markdown
    assert "label" not in run("diff", "v1", "v2", "--md", "--no-detail", "pictures", status=1)
    assert "No differences." in run("diff", "v2", "v2", "--md")


def test_a_report_of_uncommitted_changes(run: Run, tmp_path: Path) -> None:
    with vfs.open(tmp_path / "repo") as repository, repository.working() as layer:
        layer.write("labels.csv", "file,label\n1.png,dog\n")
    markdown = run("diff", "--md", status=1)
    assert "v2 → working layer" in markdown
    assert "labels.csv" in markdown


@pytest.mark.parametrize("words", [["--html", "--stat"], ["--md", "--json"], ["--md", "--name-only"]])
def test_a_report_goes_with_no_other_form(run: Run, words: list[str]) -> None:
    run("diff", "v1", "v2", *words, status=2)
