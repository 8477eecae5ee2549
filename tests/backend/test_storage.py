"""Recipes: a worker process opens the same objects."""

from __future__ import annotations

import os
from pathlib import Path

from vfs.backend.local import LocalBackend
from vfs.backend.storage import LatencyRecipe, LocalRecipe, local_storage, open_recipe
from vfs.backend.wrappers import LatencyBackend


def test_a_recipe_opens_what_its_storage_holds(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"not \xff utf-8")
    root.mkdir()
    storage = local_storage(root)
    storage.objects.put("a/k", b"data")
    assert storage.recipe is not None
    assert open_recipe(storage.recipe).read("a/k") == b"data"


def test_a_recipe_opens_the_wrapper_too(tmp_path: Path) -> None:
    recipe = LatencyRecipe(LocalRecipe(os.fsencode(tmp_path)), 0.25)
    backend = open_recipe(recipe)
    assert isinstance(backend, LatencyBackend)
    assert backend.round_trip_s == 0.25
    assert isinstance(backend.inner, LocalBackend)
    assert backend.inner.root == tmp_path
