"""Two lines of versions in one repository, to be merged."""

from __future__ import annotations

from collections.abc import Mapping

from support.repositories import Repositories
from support.trees import Picture, picture_of_overlay, write_file
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.merge import MergeResult, merge

TEXT = b"one\ntwo\nthree\n"
BASE = {b"t": TEXT, b"d/x": b"x" * 5000, b"d/y": b"y", b"gone": b"g", b"bin": b"\0" * 100}


class Lines:
    """A repository with a branch `main` and a branch `exp` that began at the same version."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self.repo = repositories.make()
        self.overlay = repositories.overlay(self.repo)
        self.change(BASE)
        self.base = commit(self.repo, self.overlay, "base", "a").version
        create_branch(self.repo, "exp", self.base, author="a")

    def change(self, files: Mapping[bytes, bytes | None]) -> None:
        for path, data in files.items():
            put(self.overlay, path, data)

    def on_exp(self, files: dict[bytes, bytes | None], message: str = "theirs") -> Version:
        """Commits changes on `exp`."""
        with self.repo.open_overlay("exp") as overlay:
            for path, data in files.items():
                put(overlay, path, data)
            return commit(self.repo, overlay, message, "b").version

    def on_main(self, files: dict[bytes, bytes | None]) -> Version:
        """Commits changes on `main`."""
        self.change(files)
        return commit(self.repo, self.overlay, "ours", "a").version

    def merge(self, **options: object) -> MergeResult:
        return merge(self.repo, self.overlay, "exp", self.repo.resolve("exp"), "a", **options)  # type: ignore[arg-type]

    def picture(self) -> Picture:
        """What the working layer holds, directories left out."""
        return {path: data for path, data in picture_of_overlay(self.overlay).items() if data is not None}

    def reopen(self) -> None:
        """Closes everything and opens it again, as another process would."""
        self.overlay.close()
        self.repo = self._repositories.reopen(self.repo)
        self.overlay = self._repositories.overlay(self.repo)


def put(overlay: Overlay, path: bytes, data: bytes | None) -> None:
    """Writes a file, or (None) removes it."""
    if data is not None:
        write_file(overlay, path, data)
        return
    directory, _, name = path.rpartition(b"/")
    with overlay.opened(directory) as parent:
        assert parent is not None
        overlay.unlink(parent.ino, name)
