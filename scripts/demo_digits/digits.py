"""Writes the states of a small real dataset: scans of handwritten digits with their labels, as a team would have them.

    digits.py WHEEL first DIR     900 scans, one batch of whose labels slipped by one row, and 300 scans to test on
    digits.py WHEEL labels DIR    the slipped labels put right
    digits.py WHEEL more DIR      450 more scans with their labels
    digits.py WHEEL faint DIR     without the 40 faintest scans
    digits.py WHEEL exclude DIR   a list of scans to leave out
    digits.py WHEEL vendor DIR    147 more scans, and 40 more rows of the list, one of which is far too wide
    digits.py WHEEL notes DIR     notes on the scanner

The scans are the 1,797 real ones of the UCI set that scikit-learn ships; the slip is made here.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zipfile
from pathlib import Path

TEST = range(300)
FIRST = range(300, 1200)
SLIPPED = range(600, 780)
MORE = range(1200, 1650)
FAINT_COUNT = 40
LATE = range(1650, 1797)
EXCLUDED = range(700, 712)
VENDORS = range(1300, 1340)
TOO_WIDE = "*[1-9].pgm"
_MEMBER = "sklearn/datasets/data/digits.csv.gz"


def read_digits(wheel: Path) -> list[tuple[bytes, int]]:
    """Returns (64 grey values from 0 to 16, digit) for every scan."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read(_MEMBER)).decode("ascii")
    rows = [[int(float(cell)) for cell in row] for row in csv.reader(io.StringIO(text))]
    return [(bytes(row[:64]), row[64]) for row in rows]


def write_scan(directory: Path, number: int, pixels: bytes) -> None:
    """Writes one scan as a PGM picture."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{number:04}.pgm").write_bytes(b"P5\n8 8\n16\n" + pixels)


def write_labels(path: Path, labels: dict[int, int]) -> None:
    """Writes the labels as CSV, in the order of the numbers."""
    lines = ["scan,digit", *(f"{number:04}.pgm,{digit}" for number, digit in sorted(labels.items()))]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def read_labels(path: Path) -> dict[int, int]:
    """Returns what write_labels wrote."""
    with path.open(encoding="ascii", newline="") as file:
        return {int(row["scan"][:4]): int(row["digit"]) for row in csv.DictReader(file)}


def write_first(data: Path, digits: list[tuple[bytes, int]]) -> None:
    """Writes the data as it first came."""
    for directory, numbers in (("test", TEST), ("images", FIRST)):
        for number in numbers:
            write_scan(data / directory, number, digits[number][0])
    labels = {number: digits[number][1] for number in FIRST}
    for number in SLIPPED:
        labels[number] = digits[number + 1][1]
    write_labels(data / "labels.csv", labels)
    write_labels(data / "test.csv", {number: digits[number][1] for number in TEST})


def write_right_labels(data: Path, digits: list[tuple[bytes, int]]) -> None:
    """Puts the slipped labels right."""
    write_labels(data / "labels.csv", {number: digits[number][1] for number in read_labels(data / "labels.csv")})


def write_more(data: Path, digits: list[tuple[bytes, int]]) -> None:
    """Adds scans with their labels."""
    labels = read_labels(data / "labels.csv")
    for number in MORE:
        write_scan(data / "images", number, digits[number][0])
        labels[number] = digits[number][1]
    write_labels(data / "labels.csv", labels)


def write_excluded(data: Path, patterns: list[str]) -> None:
    """Writes the list of scans to leave out."""
    (data / "exclude.csv").write_text("\n".join(["scan", *patterns]) + "\n", encoding="ascii")


def exclude(data: Path, _digits: list[tuple[bytes, int]]) -> None:
    """Begins a list of scans to leave out."""
    write_excluded(data, [f"{number:04}.pgm" for number in EXCLUDED])


def add_vendors_batch(data: Path, digits: list[tuple[bytes, int]]) -> None:
    """Adds the last scans with their labels, and rows to the list, one of them a pattern that matches most scans."""
    labels = read_labels(data / "labels.csv")
    for number in LATE:
        write_scan(data / "images", number, digits[number][0])
        labels[number] = digits[number][1]
    write_labels(data / "labels.csv", labels)
    rows = [f"{number:04}.pgm" for number in VENDORS]
    rows[25] = TOO_WIDE
    write_excluded(data, [*(f"{number:04}.pgm" for number in EXCLUDED), *rows])


def write_notes(data: Path, _digits: list[tuple[bytes, int]]) -> None:
    """Writes a file that no program reads."""
    (data / "NOTES").write_text("The scanner was cleaned in May.\n", encoding="ascii")


def drop_faint(data: Path, digits: list[tuple[bytes, int]]) -> None:
    """Removes the scans with the least ink."""
    labels = read_labels(data / "labels.csv")
    for number in sorted(labels, key=lambda number: sum(digits[number][0]))[:FAINT_COUNT]:
        (data / "images" / f"{number:04}.pgm").unlink()
        del labels[number]
    write_labels(data / "labels.csv", labels)


STATES = {
    "first": write_first,
    "labels": write_right_labels,
    "more": write_more,
    "faint": drop_faint,
    "exclude": exclude,
    "vendor": add_vendors_batch,
    "notes": write_notes,
}


def main() -> None:
    """Changes a directory to the state that the command line names."""
    wheel, state, directory = sys.argv[1:]
    STATES[state](Path(directory), read_digits(Path(wheel)))


if __name__ == "__main__":
    main()
