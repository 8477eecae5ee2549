"""What stands in one place only: the grammar of names of versions, and the names of a repository's files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support import source

LAYOUT = "vfs/model/layout.py"
PATHS = "vfs/repo/paths.py"

# Names of versions: the mark alone, with a number or a list; the ending of histories; steps back; the newest version.
_GRAMMAR = re.compile(r"@|@@|@/.*|@v%d|@?latest|HEAD|~|v%d|v\{.*")
# Something else of the same spelling: `..` is a directory's parent, `@@` begins a hunk of a textual diff.
_PARENT = {
    "vfs/backend/rooted_path.py",
    "vfs/cli/opening/locate.py",
    "vfs/model/names.py",
    "vfs/model/nodes.py",
    "vfs/python/entries.py",
    "vfs/python/address_download.py",
}
_HUNKS = {"vfs/cli/commands/diff.py"}

_CALLS_OF_PATHS = {"Path", "RootedPath", "joinpath", "join"}


def _literals(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of literals that are no docstring, no part of an f-string, and no key of a table."""
    module = source.tree(path)
    left_out = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    left_out |= {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and id(node) not in left_out and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield node.lineno, text


def test_the_grammar_of_names_stands_in_the_layout_alone() -> None:
    elsewhere = []
    for path in source.python_files("vfs"):
        name = source.relative(path)
        for line, text in _literals(path):
            is_other = (text == ".." and name in _PARENT) or (text == "@@" and name in _HUNKS)
            if name != LAYOUT and not is_other and (text == ".." or _GRAMMAR.fullmatch(text)):
                elsewhere.append(f"{name}:{line} {text!r}")
    assert not elsewhere


def _parts_of_paths(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the text of literals that become part of a path."""
    for node in ast.walk(source.tree(path)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.left, node.right]
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            parts = node.args if name in _CALLS_OF_PATHS else []
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.lineno, part.value


def test_the_names_of_a_repositorys_files_stand_in_one_place() -> None:
    values = {text for _, text in _literals(source.ROOT / PATHS)}
    names = {part for value in values for part in value.split("/") if part}
    assert {"work", "run", "index", "hooks", "write.lock", "vfs.json", ".sock"} <= names
    # A word like `index` has other meanings too; as a part of a path it has one.
    plain = {value for value in values if "." in value or "/" in value.strip("/")}
    elsewhere = []
    for path in source.python_files("vfs"):
        name = source.relative(path)
        literals = set(_literals(path)) if name != PATHS else set()
        found = {(line, text) for line, text in literals if text in plain}
        found |= {(line, text) for line, text in literals & set(_parts_of_paths(path)) if names & set(text.split("/"))}
        elsewhere += [f"{name}:{line} {text!r}" for line, text in sorted(found)]
    assert not elsewhere
