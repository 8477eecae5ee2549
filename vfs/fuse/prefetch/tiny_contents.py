"""Contents of tiny files, given to the native session layer before a read asks for them."""

from __future__ import annotations

from collections.abc import Callable

from vfs.fuse.view.version_inodes import VersionFile
from vfs.model.objects import Entry, Form
from vfs.native.session import CONTENT_BYTES_MAX
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import file_content


class TinyContents:
    """Gives contents, verified. Used by one thread."""

    def __init__(self, source: ObjectSource, give: Callable[[int, bytes], None]) -> None:
        """`give`: see NativeSession."""
        self._source = source
        self._give = give

    def give(self, file: VersionFile, entry: Entry) -> bool:
        """Gives a file's content if the file is tiny; returns whether it is. Raises NotLocal, Corrupt."""
        if entry.form != Form.TINY or entry.size > CONTENT_BYTES_MAX:
            return False
        self._give(file.ino, file_content(self._source, file.directory.entry, entry).tiny)
        return True
