"""Records without purged outputs: what a run wrote at a purged path is not named any more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import msgspec

from vfs.errors import Corrupt
from vfs.model.objects import Commit
from vfs.model.run_record import decode_record, encode_record
from vfs.repo.runs.records import RECORD
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import file_content, find_entry
from vfs.store.trees.file_reader import FileReader


def without_names(source: ObjectSource, commit: Commit, is_gone: Callable[[bytes], bool]) -> Mapping[bytes, bytes]:
    """Returns the files of a run's record that have to be replaced, as bytes; none where no purged path is named.

    Names of what a run opened stay: which runs used a file is asked most when the file had to go. Command, parameters,
    output, patch and notes are texts of the program's own and stay. What cannot be read stays too: fsck names it.
    """
    files: dict[bytes, bytes] = {}
    with contextlib.suppress(Corrupt):
        record = decode_record(_bytes(source, commit, RECORD))
        kept = tuple(
            output
            for output in record.outputs
            if output.place != "mount" or not is_gone(output.path.encode("utf-8", "surrogateescape"))
        )
        changed = msgspec.structs.replace(record, outputs=kept)
        if changed != record:
            files[RECORD] = encode_record(changed)
    return files


def _bytes(source: ObjectSource, commit: Commit, name: bytes) -> bytes:
    entry = find_entry(source, commit.root, name)
    if entry is None:
        return b""
    return bytes(FileReader(source, file_content(source, commit.root, entry)).read(0, entry.size))
