"""Contents of tiny files, given to the native session layer before a read asks for them."""

from __future__ import annotations

from collections.abc import Callable

from vfs.fuse.view.version_inodes import VersionFile
from vfs.model.objects import Form
from vfs.native.session import CONTENT_BYTES_MAX
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import file_content


class TinyContents:
    """Gives contents, verified. Used by one thread."""

    def __init__(self, source: ObjectSource, give: Callable[[int, bytes], int]) -> None:
        """`give`: see NativeSession."""
        self._source = source
        self._give = give
        self._answered = 0

    def give(self, file: VersionFile) -> bool:
        """Gives a file's content if the file is tiny; returns whether it is. Raises NotLocal, Corrupt."""
        entry = file.entry
        if entry.form != Form.TINY or entry.size > CONTENT_BYTES_MAX:
            return False
        self._answered += self._give(file.ino, file_content(self._source, file.directory.entry, entry).tiny)
        return True

    def take_answered(self) -> int:
        """Returns how many reads are known to be answered natively since the last call."""
        answered, self._answered = self._answered, 0
        return answered
