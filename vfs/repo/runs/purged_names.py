"""Records without purged paths: what a run opened, listed and wrote there is not named any more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import msgspec

from vfs.errors import Corrupt
from vfs.model.objects import Commit
from vfs.model.runs import Manifest, Read, decode_manifest, decode_record, encode_manifest, encode_record
from vfs.repo.runs.records import MANIFEST, RECORD
from vfs.store.object_store import ObjectSource
from vfs.store.trees.directories import file_content, find_entry
from vfs.store.trees.file_reader import FileReader


def without_names(source: ObjectSource, commit: Commit, is_gone: Callable[[bytes], bool]) -> Mapping[bytes, bytes]:
    """Returns the files of a run's record that have to be replaced, as bytes; none where no purged path is named.

    Command, parameters, output, patch and notes are texts of the program's own and stay. What cannot be read stays too:
    fsck names it.
    """
    files: dict[bytes, bytes] = {}
    with contextlib.suppress(Corrupt):
        record = decode_record(_bytes(source, commit, RECORD))
        kept = tuple(
            output
            for output in record.outputs
            if output.place != "mount" or not is_gone(output.path.encode("utf-8", "surrogateescape"))
        )
        sources = list(record.sources)
        data = _bytes(source, commit, MANIFEST)
        if data:
            manifest = decode_manifest(data)
            reads = tuple(_without(read, is_gone) for read in manifest.reads)
            if reads != manifest.reads:
                files[MANIFEST] = encode_manifest(Manifest(reads))
                for place, (old, new) in enumerate(zip(manifest.reads, reads, strict=True)):
                    if place < len(sources):
                        sources[place] = msgspec.structs.replace(
                            sources[place],
                            opened=max(0, sources[place].opened - len(old.opened) + len(new.opened)),
                            listed=max(0, sources[place].listed - len(old.listed) + len(new.listed)),
                        )
        changed = msgspec.structs.replace(record, outputs=kept, sources=tuple(sources))
        if changed != record:
            files[RECORD] = encode_record(changed)
    return files


def _without(read: Read, is_gone: Callable[[bytes], bool]) -> Read:
    opened = tuple(path for path in read.opened if not is_gone(path))
    listed = tuple(path for path in read.listed if not is_gone(path))
    return Read(read.is_all, opened, listed)


def _bytes(source: ObjectSource, commit: Commit, name: bytes) -> bytes:
    entry = find_entry(source, commit.root, name)
    if entry is None:
        return b""
    return bytes(FileReader(source, file_content(source, commit.root, entry)).read(0, entry.size))
