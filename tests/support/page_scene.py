"""A repository with something for every page: images, tables, text, hostile names and files, branches, a merge."""

from __future__ import annotations

from pathlib import Path

import duckdb
from PIL import Image, ImageDraw

from support.shell import vfs

SVG = b"<svg onload='document.title=\"owned\"'><script>document.title='owned'</script></svg>"
HTML = b"<!doctype html><title>owned</title><script>document.title='owned'</script>"
HOSTILE = "<img src=x onerror=\"document.title='owned'\">.txt"
MESSAGE = "second <script>document.title='owned'</script>"


def _images(source: Path, *, is_new: bool) -> None:
    (source / "images").mkdir(exist_ok=True)
    for number in range(3 if is_new else 6):
        image = Image.new("RGB", (120, 80), (40 * number, 120, 200))
        if is_new:
            ImageDraw.Draw(image).rectangle((20, 20, 60, 50), fill=(250, 200, 0))
        image.save(source / f"images/cat_{number}.png")


def _tables(source: Path, *, is_new: bool) -> None:
    label = (
        "CASE WHEN i % 50 = 3 THEN 'cat' ELSE 'dog' END"
        if is_new
        else "CASE WHEN i % 100 = 3 THEN 'cat' ELSE 'dog' END"
    )
    query = f"SELECT i AS id, {label} AS label, (i % 40) / 10.0 AS score FROM range(1000) t(i)"
    duckdb.execute(f"COPY ({query}) TO '{source}/train.parquet' (FORMAT parquet)")
    duckdb.execute(f"COPY ({query}) TO '{source}/labels.csv' (HEADER)")


def make(directory: Path) -> Path:
    """Makes the repository below a directory and returns its path."""
    source, repository = directory / "source", directory / "scene"
    source.mkdir()
    _images(source, is_new=False)
    _tables(source, is_new=False)
    (source / "README.md").write_text("one\ntwo\nthree\n")
    (source / "evil.svg").write_bytes(SVG)
    (source / "evil.html").write_bytes(HTML)
    (source / HOSTILE).write_text("hostile name")
    (source / "data.bin").write_bytes(bytes(range(256)))
    vfs("init", repository)
    vfs("import", source, "-R", repository, "-m", "first")
    vfs("tag", "-R", repository, "baseline", "v1")
    vfs("branch", "-R", repository, "other", "v1")
    _images(source, is_new=True)
    _tables(source, is_new=True)
    (source / "README.md").write_text("one\n2\nthree\n")
    (source / "evil.html").unlink()
    (source / "more").mkdir()
    for number in range(120):
        (source / f"more/{number:03d}.txt").write_text(str(number))
    vfs("import", source, "-R", repository, "-m", MESSAGE)
    (source / "README.md").write_text("other\n")
    vfs("import", source, "-R", repository, "-b", "other", "-m", "on the other branch")
    return repository
