"""Goal: line by line, a merge has both sides' changes, and unresolved places can be found."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.history.merge_lines import Labels, has_conflict_markers, join_regions, merge_lines, split_lines

LABELS = Labels("ours", "base", "theirs")
_texts = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d\r\n"]), max_size=12).map(b"".join)


@given(_texts, _texts)
def test_a_text_that_one_side_alone_changed_is_that_sides(base: bytes, changed: bytes) -> None:
    for sides in ((base, changed), (changed, base), (changed, changed)):
        assert join_regions(merge_lines(split_lines(base), *map(split_lines, sides)), LABELS) == changed


@given(_texts, _texts, _texts)
def test_a_merge_is_clean_or_marked_the_same_from_either_side(base: bytes, ours: bytes, theirs: bytes) -> None:
    lines = [split_lines(text) for text in (base, ours, theirs)]
    merged = merge_lines(lines[0], lines[1], lines[2])
    turned = merge_lines(lines[0], lines[2], lines[1])
    assert [(part.merged, part.base, part.ours, part.theirs) for part in merged] == [
        (part.merged, part.base, part.theirs, part.ours) for part in turned
    ]
    assert has_conflict_markers(join_regions(merged, LABELS)) == any(part.merged is None for part in merged)


def test_many_changed_lines_of_a_long_text_are_matched_without_comparing_all_with_all() -> None:
    base = [b"line %d\n" % number for number in range(50_000)]
    ours = [line.upper() if number % 10 == 0 else line for number, line in enumerate(base)]
    theirs = [line.upper() if number % 10 == 5 else line for number, line in enumerate(base)]
    merged = merge_lines(base, ours, theirs)
    assert all(part.merged is not None for part in merged)
    assert sum(len(part.merged or ()) for part in merged) == len(base)


def test_a_side_without_a_last_line_end_leaves_the_marks_on_lines_of_their_own() -> None:
    text = join_regions(merge_lines([b"a"], [b"b"], [b"c"]), LABELS)
    assert text == b"<<<<<<< ours\nb\n||||||| base\na\n=======\nc\n>>>>>>> theirs\n"
    assert has_conflict_markers(text)
    dos = join_regions(merge_lines([b"x\r\n", b"a"], [b"x\r\n", b"b\r\n"], [b"x\r\n", b"c"]), LABELS)
    assert dos == b"x\r\n" + text.replace(b"\n", b"\r\n")
    assert has_conflict_markers(dos)
    assert not has_conflict_markers(b"text <<<<<<< \n=======\n")


@pytest.mark.parametrize("seed", range(12))
def test_labels_one_a_line_merge_as_git_merges_them(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    labels = [b"cat\n", b"dog\n", b"bird\n"]
    base = [rng.choice(labels) for _ in range(2000)]

    def changed(first: int) -> list[bytes]:
        lines = list(base)
        for at in range(first, 1950, 100):
            lines[at : at + rng.randrange(3)] = [rng.choice([*labels, b"fish\n"]) for _ in range(rng.randrange(3))]
        return lines

    ours, theirs = changed(20), changed(70)
    for name, lines in (("base", base), ("ours", ours), ("theirs", theirs)):
        (tmp_path / name).write_bytes(b"".join(lines))
    command = ["git", "merge-file", "-p", "ours", "base", "theirs"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert join_regions(merge_lines(base, ours, theirs), LABELS) == told.stdout
