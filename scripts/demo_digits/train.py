"""Learns to read digits from a directory of scans and prints how well it does. Plain Python, plain paths.

    train.py --data PATH

The model is the nearest neighbour: a scan is the digit that the most similar scan of the training data is.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

Scan = tuple[int, ...]


def read_scans(images: Path, labels: Path) -> list[tuple[Scan, str]]:
    """Returns (pixels, digit) for every row of a label file."""
    with labels.open(encoding="ascii", newline="") as file:
        return [(tuple((images / row["scan"]).read_bytes()[-64:]), row["digit"]) for row in csv.DictReader(file)]


def nearest(scan: Scan, known: list[tuple[Scan, str]]) -> str:
    """Returns the digit of the known scan that is most like this one."""
    return min(known, key=lambda pair: math.dist(scan, pair[0]))[1]


def main() -> None:
    """Trains on one directory, tests on the test scans that lie in it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data: Path = parser.parse_args().data
    known = read_scans(data / "images", data / "labels.csv")
    tests = read_scans(data / "test", data / "test.csv")
    right = sum(nearest(scan, known) == digit for scan, digit in tests)
    print(
        f"{data.name}: trained on {len(known)} scans, {100 * right / len(tests):.1f} % of {len(tests)} test scans right"
    )


if __name__ == "__main__":
    main()
