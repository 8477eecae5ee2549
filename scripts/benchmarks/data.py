"""Data sets that are the same on every machine and in every run: made from a seed, never downloaded.

D1 stands for images (no compression helps), D2 for a few large tables, D3 for a hundred thousand small documents. Each
comes at a scale: 1.0 is the full size that targets are stated for.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

TABLE_FILES = 4
TABLE_BYTES = 256 * MIB
TABLE_BYTES_MIN = 64 * MIB
"""With smaller files a sequential read would measure the latency of the first byte."""
_PIECE_BYTES = 4 * MIB


@dataclass(frozen=True)
class Sizes:
    """How much of each data set there is."""

    images: int
    image_directories: int
    tables: int
    table_bytes: int
    documents: int
    document_directories: int

    @classmethod
    def scaled(cls, scale: float) -> Sizes:
        """Returns the sizes at a scale; images and documents keep their own sizes and their number in a directory."""
        return cls(
            images=200 * max(2, round(100 * scale)),
            image_directories=max(2, round(100 * scale)),
            tables=TABLE_FILES,
            table_bytes=max(TABLE_BYTES_MIN, round(TABLE_BYTES * scale)),
            documents=100 * max(10, round(1000 * scale)),
            document_directories=max(10, round(1000 * scale)),
        )


class Text:
    """Compressible bytes as tables have them: fragments of a vocabulary in random order, zstd level 1 makes a third."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        words = [b"2026-%02d-" % month for month in range(1, 13)] + [
            b"true,",
            b"false,",
            b"cat,",
            b"dog,",
            b"null,",
            b"\n",
        ]
        while len(words) < 256:
            words.append(b"%.*f," % (self._random.randint(1, 4), self._random.uniform(-100, 100)))
        # Two words at a time: half the pieces to join.
        self._pairs = [first + second for first in words for second in words]

    def take(self, size: int) -> bytes:
        """Returns the next `size` bytes."""
        # The mean pair is over 10 bytes long, so this many are always enough.
        numbers = memoryview(self._random.randbytes(2 * (size // 10 + 64))).cast("H")
        return b"".join(map(self._pairs.__getitem__, numbers))[:size]


def image(index: int) -> bytes:
    """Returns the incompressible bytes of the image with this number: 10 to 150 KB."""
    source = random.Random(1_000_000 + index)
    return source.randbytes(source.randint(10 * KIB, 150 * KIB))


def image_path(index: int, sizes: Sizes) -> Path:
    """Returns where an image stands below the data set."""
    return Path("images", f"class{index % sizes.image_directories:03d}", f"image{index:06d}.jpg")


def document(index: int) -> bytes:
    """Returns a JSON document of about 1 KB: keys that all share, figures of its own."""
    source = random.Random(2_000_000 + index)
    lines = [b'{"id": %d, "source": "sensor-%d", "status": "ok", "values": [' % (index, source.randint(0, 50))]
    for _ in range(source.randint(15, 33)):
        label = (b"walk", b"run", b"rest", b"unknown")[source.randrange(4)]
        lines.append(b'  [%.9f, %.12f, "%s"],' % (source.gauss(20, 5), source.random(), label))
    return b"\n".join(lines) + b'\n], "key": "%s"}\n' % source.randbytes(24).hex().encode()


def document_path(index: int, sizes: Sizes) -> Path:
    """Returns where a document stands below the data set; neighbours in number are neighbours in a directory."""
    each = sizes.documents // sizes.document_directories
    return Path("documents", f"part{index // each:04d}", f"document{index:06d}.json")


def table_path(number: int) -> Path:
    """Returns where a large table stands below the data set."""
    return Path("tables", f"table{number}.csv")


def make_images_and_tables(directory: Path, sizes: Sizes) -> None:
    """Writes D1 and D2."""
    for number in range(sizes.image_directories):
        (directory / "images" / f"class{number:03d}").mkdir(parents=True, exist_ok=True)
    for index in range(sizes.images):
        (directory / image_path(index, sizes)).write_bytes(image(index))
    (directory / "tables").mkdir(exist_ok=True)
    for number in range(sizes.tables):
        text = Text(3_000_000 + number)
        with (directory / table_path(number)).open("wb") as file:
            for offset in range(0, sizes.table_bytes, _PIECE_BYTES):
                file.write(text.take(min(_PIECE_BYTES, sizes.table_bytes - offset)))


def make_documents(directory: Path, sizes: Sizes) -> None:
    """Writes D3."""
    for index in range(sizes.documents):
        path = directory / document_path(index, sizes)
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
        path.write_bytes(document(index))


@dataclass(frozen=True)
class Change:
    """What differs between one version and the one before it."""

    version: int
    images: list[int]
    appended_table: int
    inserted_table: int
    sizes: Sizes

    @classmethod
    def of(cls, version: int, sizes: Sizes) -> Change:
        """Returns the change that makes a version, from 2 on: 1 % of the images and two tables."""
        source = random.Random(4_000_000 + version)
        chosen = sorted(source.sample(range(sizes.images), max(1, sizes.images // 100)))
        return cls(version, chosen, version % sizes.tables, (version + 1) % sizes.tables, sizes)

    def apply(self, directory: Path) -> None:
        """Makes the change in a tree: new images, 1 MB behind one table, 1 KB in the middle of another."""
        for index in self.images:
            (directory / image_path(index, self.sizes)).write_bytes(image(10_000_000 * self.version + index))
        with (directory / table_path(self.appended_table)).open("ab") as file:
            file.write(Text(5_000_000 + self.version).take(MIB))
        insert_bytes(directory / table_path(self.inserted_table), Text(6_000_000 + self.version).take(KIB))


def insert_bytes(path: Path, data: bytes) -> None:
    """Inserts bytes in the middle of a file, as an editor does: a new file beside it takes its name."""
    middle = path.stat().st_size // 2
    beside = path.with_name(path.name + ".new")
    with path.open("rb") as old, beside.open("wb") as new:
        left = middle
        while left:
            piece = old.read(min(_PIECE_BYTES, left))
            new.write(piece)
            left -= len(piece)
        new.write(data)
        shutil.copyfileobj(old, new, _PIECE_BYTES)
    os.replace(beside, path)
