"""The backends of one repository, and recipes: how another process opens the same objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from vfs.backend.durable import OnStep
from vfs.backend.local import LocalBackend
from vfs.backend.protocol import LocalFiles, ObjectBackend


class LocalRecipe(msgspec.Struct, frozen=True, tag="local"):
    """A LocalBackend over a directory, whose path is given as bytes."""

    root: bytes


class LatencyRecipe(msgspec.Struct, frozen=True, tag="latency"):
    """A LatencyBackend over another backend."""

    inner: Recipe
    round_trip_s: float


Recipe = LocalRecipe | LatencyRecipe


class Storage(NamedTuple):
    """What a repository reads and writes: objects, the files that grow, and how a worker process opens the objects.

    `recipe` is None where no other process can (a backend in memory): then there are no prefetch workers.
    """

    objects: ObjectBackend
    files: LocalFiles
    recipe: Recipe | None


def local_storage(root: Path, on_step: OnStep | None = None) -> Storage:
    """Returns the storage of a repository in a local directory, which must exist when it is used."""
    backend = LocalBackend(root, on_step)
    return Storage(backend, backend, LocalRecipe(os.fsencode(root.absolute())))


def open_recipe(recipe: Recipe) -> ObjectBackend:
    """Opens the backend of a recipe."""
    if isinstance(recipe, LatencyRecipe):
        from vfs.backend.wrappers import LatencyBackend

        return LatencyBackend(open_recipe(recipe.inner), recipe.round_trip_s)
    return LocalBackend(Path(os.fsdecode(recipe.root)))
