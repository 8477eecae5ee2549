"""Rules of the source that no linter keeps: sizes, doors, names, and what a test may do."""

from __future__ import annotations

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from support import source

MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# One door for each library: swapping or upgrading it means reading one place.
DOORS = {
    "blake3": "vfs/model/ids.py",
    "PIL": "vfs/formats/images.py",
    "click": "vfs/cli/",
    "fsspec": "vfs/python/",
    "lmdb": "vfs/store/lmdb_",
    "duckdb": "vfs/formats/sql_engine.py",
    "jinja2": "vfs/web/rendering.py",
    "obstore": "vfs/backend/object_storage.py",
    "msgspec": "vfs/",
    "pathspec": "vfs/repo/ignore_rules.py",
    "pyfastcdc": "vfs/model/chunking.py",
    "pyfuse3": "vfs/fuse/",
    "lightning": "vfs/python/integrations/lightning.py",
    "mlflow": "vfs/python/integrations/mlflow.py",
    "transformers": "vfs/python/integrations/transformers.py",
    "wandb": "vfs/python/integrations/wandb.py",
    "dvc": "vfs/python/source_history.py",
    "starlette": "vfs/web/application.py",
    "tqdm": "vfs/cli/",
    "trio": "vfs/fuse/",
    "uvicorn": "vfs/web/__main__.py",
    "yaml": "vfs/repo/runs/parameters.py",
    "xxhash": "vfs/overlay/journal/checksums.py",
    "zstandard": "vfs/store/packs/compression.py",
}

NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(source.tree(path)) if isinstance(node, Function))


def _called(node: ast.AST) -> str:
    """Returns the dotted name that a call's function, or an expression, spells."""
    target = node.func if isinstance(node, ast.Call) else node
    return ast.unparse(target) if isinstance(target, ast.Name | ast.Attribute) else ""


def _public(node: ast.stmt) -> bool:
    return isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")


def test_modules_and_functions_fit_in_a_head() -> None:
    too_long = []
    for path in source.python_files("vfs", "tests", "scripts"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MODULE_LINES_MAX:
            too_long.append(f"{source.relative(path)}: {lines} lines")
        for function in _functions(path):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                too_long.append(f"{source.relative(path)}:{function.lineno} {function.name}: {lines} lines")
    assert not too_long


def test_each_library_is_imported_through_its_one_door() -> None:
    elsewhere = []
    for path in source.python_files("vfs"):
        for name, line in source.imports(path):
            library = name.split(".")[0]
            if library == "vfs" or library in sys.stdlib_module_names:
                continue
            if not source.relative(path).startswith(DOORS.get(library, "nowhere")):
                elsewhere.append(f"{source.relative(path)}:{line} imports {library}")
    assert not elsewhere


def test_only_the_command_line_reads_the_environment() -> None:
    readers = [
        f"{source.relative(path)}:{node.lineno}"
        for path in source.python_files("vfs")
        # `vfs.log` is called in the user's program; the switch of the native session layer is for tests of all parts.
        # The guard of a mount is started with the environment as it is. A version names the run that VFS_RUN names.
        if not source.relative(path).startswith(
            (
                "vfs/cli/",
                "vfs/metric_logging.py",
                "vfs/repo/acting_run.py",
                "vfs/native/session.py",
                "vfs/fuse/session/guard.py",
            )
        )
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}
    ]
    assert not readers


def test_names_say_what_a_thing_is() -> None:
    empty = []
    for path in source.python_files("vfs", "tests", "scripts"):
        words = [path.stem, *path.relative_to(source.ROOT).parts[:-1]]
        words += [node.name for node in ast.walk(source.tree(path)) if isinstance(node, Function | ast.ClassDef)]
        for name in words:
            spaced = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
            if NAMES_THAT_SAY_NOTHING & set(spaced.split("_")):
                empty.append(f"{source.relative(path)}: {name}")
    assert not empty


def test_everything_public_says_what_it_does_in_one_sentence() -> None:
    silent = []
    for path in source.python_files("vfs"):
        module = source.tree(path)
        documented: list[tuple[str, ast.Module | Function | ast.ClassDef]] = [("module", module)]
        for node in filter(_public, module.body):
            assert isinstance(node, Function | ast.ClassDef)
            documented.append((node.name, node))
            # A class with a base may leave a method's contract to the base.
            if isinstance(node, ast.ClassDef) and not node.bases:
                methods = [item for item in filter(_public, node.body) if isinstance(item, Function)]
                documented += [(f"{node.name}.{method.name}", method) for method in methods]
        for name, item in documented:
            first = (ast.get_docstring(item) or "").split("\n\n")[0].strip()
            if not first.endswith((".", ":", "?", "…")):
                silent.append(f"{source.relative(path)}: {name}: {first[-40:]!r}")
    assert not silent


def test_nothing_is_left_for_later() -> None:
    left = []
    for path in source.python_files("vfs", "tests", "scripts"):
        with tokenize.open(path) as file:
            comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
        left += [
            f"{source.relative(path)}:{token.start[0]} {token.string}"
            for token in comments
            if any(word in token.string for word in ("TODO", "FIXME", "XXX"))
        ]
        left += [
            f"{source.relative(path)}:{node.lineno} is a stub"
            for node in ast.walk(source.tree(path))
            if isinstance(node, ast.Raise) and node.exc and _called(node.exc) == "NotImplementedError"
        ]
    assert not left


def test_tests_use_the_real_parts_and_wait_for_nothing() -> None:
    refused = []
    for path in source.python_files("tests"):
        for node in ast.walk(source.tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in {"skip", "skipif", "xfail", "importorskip"}:
                refused.append(f"{source.relative(path)}:{node.lineno} {node.attr}")
            if isinstance(node, ast.Call) and path.name.startswith("test_") and _called(node).endswith(".sleep"):
                refused.append(f"{source.relative(path)}:{node.lineno} sleeps")
        for name, line in source.imports(path):
            if name.startswith(("unittest", "mock", "test_", "tests")):
                refused.append(f"{source.relative(path)}:{line} imports {name}")
    assert not refused


def test_only_the_command_line_names_its_commands() -> None:
    """The core gives an Advice; vfs/api/hints.py says which command follows it, for a terminal or a page."""
    named = re.compile(r"`vfs( --?[a-z-]+)* [a-z]")
    found = [
        f"{source.relative(path)}:{node.lineno}"
        for path in source.python_files("vfs")
        if not source.relative(path).startswith(("vfs/cli/", "vfs/api/hints.py", "vfs/python/hints.py"))
        for node in ast.walk(source.tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and named.search(node.value)
    ]
    assert found == []


# A command's module is named as its use case. Others that share a name:
SAME_SUBJECT = {
    "blame": "who added a line: the query, and its JSON document",
    "hints": "an advice as a sentence: for a terminal, and for a Python program",
    "path_history": "the versions that changed a path: the query, and its page",
    "working_layer": "what is done with a working layer: by commands, and by Python programs",
}


def test_modules_of_one_name_are_about_one_subject() -> None:
    places: dict[str, list[str]] = {}
    for path in source.python_files("vfs"):
        if not path.stem.startswith("__") and path.parent != source.ROOT / "vfs/cli/commands":
            places.setdefault(path.stem, []).append(source.relative(path))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in shared.items() if name not in SAME_SUBJECT} == {}
    assert sorted(SAME_SUBJECT) == sorted(shared)
