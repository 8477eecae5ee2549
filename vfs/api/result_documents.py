"""The JSON documents of what a garbage collection, purge, check, import, export or restoration did."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NotRequired, TypedDict

from vfs.api.documents import CountsDocument, MadeDocument, counts_document, version_document
from vfs.errors import Hint
from vfs.history.diff import FileCounts
from vfs.model.names import path_text
from vfs.model.objects import Version
from vfs.repo.export.tree_writer import Exported
from vfs.repo.fsck import Report
from vfs.repo.import_directory import Imported
from vfs.repo.retention.gc import Collected
from vfs.repo.retention.purge import Purged


class ForgottenDocument(TypedDict):
    """A version that was forgotten."""

    version: str
    id: str


class CollectedDocument(TypedDict):
    """What a garbage collection removed, or would remove with `dry_run`."""

    forgotten: list[ForgottenDocument]
    objects: int
    object_bytes: int
    packs: int
    bytes_before: int
    bytes_after: int
    bytes_left: int
    tags: list[str]
    objects_checked: int
    objects_unneeded: int
    dry_run: NotRequired[bool]


def collected_document(found: Collected, *, dry_run: bool | None = None) -> CollectedDocument:
    """Returns the document of a garbage collection; of one that is part of a purge without `dry_run`."""
    value: CollectedDocument = {
        "forgotten": [{"version": version.name, "id": version.id.hex()} for version in found.forgotten],
        "objects": found.objects,
        "object_bytes": found.object_bytes,
        "packs": found.packs,
        "bytes_before": found.bytes_before,
        "bytes_after": found.bytes_after,
        "bytes_left": found.bytes_left,
        "tags": found.tags,
        "objects_checked": found.objects_checked,
        "objects_unneeded": found.objects_unneeded,
    }
    if dry_run is not None:
        value["dry_run"] = dry_run
    return value


class PurgedDocument(TypedDict):
    """What a purge took out of the versions; `swept` is null in a dry run and where nothing had the paths."""

    versions: list[str]
    files: int
    bytes: int
    rewritten: int
    swept: CollectedDocument | None
    dry_run: bool


def purged_document(found: Purged, *, dry_run: bool) -> PurgedDocument:
    """Returns the document of a purge."""
    return {
        "versions": found.versions,
        "files": found.files,
        "bytes": found.bytes,
        "rewritten": found.rewritten,
        "swept": None if found.swept is None else collected_document(found.swept),
        "dry_run": dry_run,
    }


class DamageDocument(TypedDict):
    """Something damaged; `path` is null where it concerns no single path."""

    reason: str
    path: str | None
    versions: list[str]


class FsckDocument(TypedDict):
    """What a check read and what it found; `damage_omitted` counts damage beyond the list."""

    clean: bool
    damage: list[DamageDocument]
    damage_omitted: int
    notes: list[str]
    versions: int
    files: int
    nodes: int
    packs: int
    objects: int
    bytes_read: int


def fsck_document(report: Report, describe: Callable[[str, Hint | str], str]) -> FsckDocument:
    """Returns the document of a check; `describe` makes one text of a reason and its hint."""
    return {
        "clean": report.is_clean,
        "damage": [
            {
                "reason": describe(damage.reason, damage.hint),
                "path": None if damage.path is None else path_text(damage.path),
                "versions": list(damage.versions),
            }
            for damage in report.damage
        ],
        "damage_omitted": report.omitted,
        "notes": report.notes,
        "versions": report.versions,
        "files": report.files,
        "nodes": report.nodes,
        "packs": report.packs,
        "objects": report.objects,
        "bytes_read": report.bytes_read,
    }


class SkippedDocument(TypedDict):
    """A path that an import left out because it could not be read."""

    path: str
    why: str


class ImportedDocument(MadeDocument):
    """A version made by an import, and what the import met."""

    files_read: int
    bytes_read: int
    ignored: int
    bytes_stored: int
    skipped: list[SkippedDocument]
    vanished: list[str]
    unstable: list[str]
    excluded: list[str]


def imported_document(done: Imported, counts: FileCounts) -> ImportedDocument:
    """Returns the document of an import."""
    return {
        **version_document(done.version, {}),
        "files_read": done.tally.files_read,
        "bytes_read": done.tally.read_bytes,
        "ignored": done.tally.ignored,
        "bytes_stored": done.statistics.bytes_stored,
        "skipped": [{"path": path_text(path), "why": why} for path, why in done.skipped],
        "vanished": [path_text(path) for path in done.tally.vanished],
        "unstable": [path_text(path) for path in done.tally.unstable],
        "excluded": [path_text(path) for path in done.excluded],
        "changes": counts_document(counts),
    }


class LossDocument(TypedDict):
    """Something of a version that an exported file could not be given."""

    path: str
    what: str
    why: str


class ExportedDocument(TypedDict):
    """What an export wrote and what it lost."""

    directory: str
    version: str
    files: int
    bytes: int
    owners_kept: bool
    losses: list[LossDocument]


def exported_document(directory: Path, version: Version, done: Exported) -> ExportedDocument:
    """Returns the document of an export."""
    return {
        "directory": os.path.abspath(directory),
        "version": version.name,
        "files": done.files,
        "bytes": done.bytes,
        "owners_kept": done.owners_kept,
        "losses": [{"path": path_text(loss.path), "what": loss.what, "why": loss.reason} for loss in done.losses],
    }


class RestoredDocument(TypedDict):
    """Paths that were restored from a version, and those removed; `changes` is null where it was not counted."""

    version: str
    restored: list[str]
    removed: list[str]
    changes: CountsDocument | None


def restored_document(
    version: Version, restored: Iterable[bytes], removed: Iterable[bytes], counts: FileCounts | None
) -> RestoredDocument:
    """Returns the document of a restoration; `counts` is None where it was not counted."""
    return {
        "version": version.name,
        "restored": [path_text(path) for path in restored],
        "removed": [path_text(path) for path in removed],
        "changes": None if counts is None else counts_document(counts),
    }
