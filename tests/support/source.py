"""The project's own files, as the tidy tests look at them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_UNTRACKED = {".git", ".venv", "__pycache__", "dist", "build", "bench-results"}
_UNTRACKED_ENDINGS = ("_cache", ".egg-info", ".hypothesis")


def files() -> Iterator[Path]:
    """Yields every file that belongs to the project, sorted: the tree without what .gitignore names."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(
            name for name in folders if name not in _UNTRACKED and not name.endswith(_UNTRACKED_ENDINGS)
        )
        for name in sorted(names):
            if name not in _UNTRACKED and not name.endswith(".pyc"):
                yield Path(folder, name)


def python_files(*folders: str) -> list[Path]:
    """Returns the Python modules below the named top-level folders."""
    found = [path for path in files() if path.suffix == ".py" and relative(path).split("/")[0] in folders]
    assert found, folders
    return found


@cache
def tree(path: Path) -> ast.Module:
    """Returns a module's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def relative(path: Path) -> str:
    """Returns the path from the project's top, with slashes."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yields (dotted name, line) of everything a module imports, at any depth of the code."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
