"""The files of a version as a map-style dataset, which PyTorch's DataLoader takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from vfs.python.versions import Version

T = TypeVar("T")


class Files(Generic[T]):
    """Files of a version by number: `files[3]` is their bytes, or what `transform(path, bytes)` makes of them.

    It pickles by the version's id, and works in the workers of a DataLoader, however they are started. `version_id`
    says what was trained on.
    """

    def __init__(
        self, version: Version, paths: Sequence[str], transform: Callable[[str, bytes], T] | None = None
    ) -> None:
        self.version = version
        self.paths = list(paths)
        self.transform = transform

    @property
    def version_id(self) -> str:
        """The id of the version."""
        return self.version.id

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> T | bytes:
        path = self.paths[number]
        data = self.version.read_bytes(path)
        return data if self.transform is None else self.transform(path, data)

    def __getitems__(self, numbers: Sequence[int]) -> list[Any]:
        """Returns a batch, read in the order of the paths: neighbours are stored together."""
        order = sorted(range(len(numbers)), key=lambda place: self.paths[numbers[place]])
        found: list[Any] = [None] * len(numbers)
        for place in order:
            found[place] = self[numbers[place]]
        return found

    def __repr__(self) -> str:
        return f"<vfs.Files: {len(self)} of {self.version.name} {self.version.id[:8]}>"
