"""Learns to read digits from a directory of scans and prints how well it does. Plain Python, plain paths.

    train.py --data PATH

The model is the nearest neighbour: a scan is the digit that the most similar scan of the training data is. Scans that
match a pattern in `exclude.csv`, if there is one, are left out.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from fnmatch import fnmatch
from pathlib import Path

Scan = tuple[int, ...]


def read_scans(images: Path, labels: Path, without: list[str]) -> list[tuple[Scan, str]]:
    """Returns (pixels, digit) for the rows of a label file, without those of scans that match a pattern."""
    with labels.open(encoding="ascii", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not any(fnmatch(row["scan"], each) for each in without)]
    return [(tuple((images / row["scan"]).read_bytes()[-64:]), row["digit"]) for row in rows]


def excluded(data: Path) -> list[str]:
    """Returns the patterns of scans to leave out."""
    if not (data / "exclude.csv").exists():
        return []
    with (data / "exclude.csv").open(encoding="ascii", newline="") as file:
        return [row["scan"] for row in csv.DictReader(file)]


def nearest(scan: Scan, known: list[tuple[Scan, str]]) -> str:
    """Returns the digit of the known scan that is most like this one."""
    return min(known, key=lambda pair: math.dist(scan, pair[0]))[1]


def main() -> None:
    """Trains on one directory, tests on the test scans that lie in it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data: Path = parser.parse_args().data
    known = read_scans(data / "images", data / "labels.csv", excluded(data))
    tests = read_scans(data / "test", data / "test.csv", [])
    right = sum(nearest(scan, known) == digit for scan, digit in tests)
    accuracy = 100 * right / len(tests)
    print(f"{data.name}: trained on {len(known)} scans, {accuracy:.1f} % of {len(tests)} test scans right")
    if "VFS_METRICS" in os.environ:
        with open(os.environ["VFS_METRICS"], "a", encoding="ascii") as file:
            file.write(f"accuracy={accuracy:.2f}\n")


if __name__ == "__main__":
    main()
