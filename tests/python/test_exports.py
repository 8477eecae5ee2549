"""The stable names: what they are called, what they take, and what importing them costs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vfs

ROOT = Path(__file__).resolve().parents[2]
SIGNATURES = Path(__file__).with_name("signatures.txt")


def _members(name: str, value: type) -> Iterator[str]:
    for member, found in inspect.getmembers(value):
        if member.startswith("_") or member not in {key for each in value.__mro__[:-1] for key in vars(each)}:
            continue
        owner = next(each for each in value.__mro__ if member in vars(each))
        if not owner.__module__.startswith("vfs.python") and member not in getattr(value, "_fields", ()):
            continue
        if callable(found):
            yield f"{name}.{member}{inspect.signature(found)}"
        else:
            yield f"{name}.{member}"


def signatures() -> str:
    """Returns the stable names with their parameters and types, one a line."""
    lines = []
    for name in sorted(vfs.__all__):
        value = getattr(vfs, name)
        if inspect.isclass(value):
            has_own = "__init__" in vars(value) or issubclass(value, tuple)
            lines.append(f"{name}{inspect.signature(value) if has_own else ''}")
            lines += _members(name, value)
        elif callable(value):
            lines.append(f"{name}{inspect.signature(value)}")
        else:
            lines.append(name)
    return "\n".join(lines) + "\n"


def test_names_and_parameters_are_the_promised_ones() -> None:
    # Append to the file; what is in it is promised.
    assert signatures() == SIGNATURES.read_text(encoding="utf-8")


def test_every_stable_name_is_documented() -> None:
    for name in vfs.__all__:
        value = getattr(vfs, name)
        if callable(value):
            assert (inspect.getdoc(value) or "").endswith((".", "…")), name
    assert set(vfs.__all__) <= set(dir(vfs))


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        vfs.nothing  # noqa: B018  The access is the test.


_LOADED = """
import json, sys
before = set(sys.modules)
import vfs
first = sorted(set(sys.modules) - before)
with vfs.open(sys.argv[1]) as repository:
    repository["latest"].read_bytes("a.txt")
print(json.dumps([first, sorted(sys.modules)]))
"""


def test_importing_loads_next_to_nothing_and_reading_no_mount(small: vfs.Repository) -> None:
    small.close()
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, str(small.path)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    first, after = json.loads(done.stdout)
    assert [name for name in first if name.startswith("vfs")] == ["vfs"]
    heavy = {"trio", "pyfuse3", "click", "tqdm", "duckdb", "numpy", "fsspec", "asyncio", "vfs.cli", "vfs.fuse"}
    assert not heavy & set(after)
    assert not any(name.startswith("vfs.overlay.compaction") for name in first)


def test_types_are_for_others_to_check() -> None:
    assert (ROOT / "vfs" / "py.typed").exists()
