"""How a version is described: in one line of the log and in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vfs.cli.columns import NAME_MAX, cut
from vfs.cli.output import iso_time
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.repo.costs import Cost


def short_id(commit_id: CommitId) -> str:
    """Returns the digits of a commit id that people are shown."""
    return commit_id.hex()[:SHORT_HEX]


def safe_text(text: str) -> str:
    """Returns a message's or author's text safe for a terminal: control characters escaped, line ends kept."""
    return "\n".join(show_path(line.encode("utf-8", "surrogateescape")) for line in text.splitlines())


def one_line(text: str) -> str:
    """Returns an author's or branch's name safe for a table: control characters escaped, line ends too."""
    return show_path(text.encode("utf-8", "surrogateescape"))


def author_cell(author: str) -> str:
    """Returns an author's name for a list, the end of a long one cut."""
    return cut(one_line(author), NAME_MAX)


def first_line(message: str) -> str:
    """Returns a message's first line, safe to print."""
    lines = safe_text(message).splitlines()
    return lines[0] if lines else ""


def meta_text(version: Version) -> str:
    """Returns a version's metadata in one line: `acc=0.93 loss=0.1`."""
    return " ".join(first_line(f"{key}={value}") for key, value in version.commit.meta)


def version_json(version: Version, tags: Mapping[CommitId, list[str]]) -> dict[str, Any]:
    """Returns a version as JSON values. `time` is UTC, `id` and `parents` are whole commit ids."""
    commit = version.commit
    return {
        "version": version.name,
        "id": version.id.hex(),
        "parents": [parent.hex() for parent in commit.parents],
        "time": iso_time(commit.time_ns),
        "author": commit.author,
        "message": commit.message,
        "meta": dict(commit.meta),
        "files": commit.root.files,
        "size": commit.root.size,
        "tags": tags.get(version.id, []),
    }


def cost_json(cost: Cost) -> dict[str, Any]:
    """Returns what a version costs as JSON values; sizes in bytes."""
    version = cost.version
    return {
        "version": version.name,
        "id": version.id.hex(),
        "time": iso_time(version.commit.time_ns),
        "size": version.commit.root.size,
        "new_bytes": cost.new_bytes,
        "new_stored": cost.new_stored,
        "alone_bytes": cost.alone_bytes,
        "alone_stored": cost.alone_stored,
        "new_share": round(cost.new_share, 4),
        "compression_ratio": round(cost.compression_ratio, 3),
    }
