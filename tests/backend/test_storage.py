"""Recipes: another process opens the same objects."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vfs.backend.local import LocalBackend
from vfs.backend.storage import LatencyRecipe, LocalRecipe, decode_recipe, encode_recipe, local_storage, open_recipe
from vfs.backend.wrappers import LatencyBackend

_READER = """
import sys
from vfs.backend.storage import decode_recipe, open_recipe
sys.stdout.buffer.write(open_recipe(decode_recipe(sys.argv[1])).read("a/k"))
"""


def test_a_process_elsewhere_reads_what_a_recipe_names(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"not \xff utf-8")
    root.mkdir()
    storage = local_storage(root)
    storage.objects.put("a/k", b"data")
    assert storage.recipe is not None
    command = [sys.executable, "-c", _READER, encode_recipe(storage.recipe)]
    assert subprocess.run(command, cwd="/", capture_output=True, check=True, timeout=60).stdout == b"data"


def test_a_recipe_opens_the_wrapper_too(tmp_path: Path) -> None:
    recipe = LatencyRecipe(LocalRecipe(os.fsencode(tmp_path)), 0.25)
    backend = open_recipe(decode_recipe(encode_recipe(recipe)))
    assert isinstance(backend, LatencyBackend)
    assert backend.round_trip_s == 0.25
    assert isinstance(backend.inner, LocalBackend)
    assert backend.inner.root == tmp_path
