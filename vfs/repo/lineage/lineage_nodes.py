"""The answer to a question about lineage: a graph of files, versions and runs, from a target up or down."""

from __future__ import annotations

from typing import Literal

import msgspec

from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.repo.runs.run_tables import KnownRun, Written

SAMPLES_MAX = 5
"""Paths that an edge names as examples."""

Relation = Literal["written-by", "came-with", "committed-by", "read", "used"]
"""*written-by*: a run wrote files. *came-with*: a version introduced files that no run wrote. *committed-by*: a
version's metadata names the run. *read*: a run opened files of a version. *used*: a run opened what the other end is,
or wrote."""


class FileNode(msgspec.Struct, frozen=True):
    """A file. `content` and `sha256` are empty where they are not known; `held_by`: versions that have it, in words."""

    id: str
    path: bytes
    content: bytes = b""
    sha256: str = ""
    size: int = 0
    is_outside: bool = False
    held_by: tuple[str, ...] = ()


class VersionNode(msgspec.Struct, frozen=True):
    """A version, or what a working layer showed when a run began (`is_snapshot`: of that version, with changes).

    `version` is None where it is gone. `label`: `main@v12`, or the digits of a commit.
    """

    id: str
    label: str
    version: Version | None
    is_snapshot: bool = False


class RunNode(msgspec.Struct, frozen=True):
    """A run, and the first of the files that it wrote."""

    id: str
    run: KnownRun
    written: tuple[Written, ...] = ()


Node = FileNode | VersionNode | RunNode


class Edge(msgspec.Struct, frozen=True):
    """`later` comes from `earlier` or used it. `files`: how many; of a *read*, of how many (`total`), and how the
    version is known. `is_copy`: found by content alone, at another path. `is_least`: there may be more."""

    later: str
    earlier: str
    relation: Relation
    files: int = 0
    total: int = 0
    known: str = ""
    samples: tuple[bytes, ...] = ()
    is_copy: bool = False
    is_least: bool = False


class Lineage(msgspec.Struct):
    """A graph. `direction`: `made-by` leads to earlier ones, `used-by` to later ones. `notes`: what is not in it."""

    direction: Literal["made-by", "used-by"]
    target: str
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    notes: list[str] = []

    def add(self, node: Node) -> bool:
        """Adds a node. Returns True if it is new."""
        if node.id in self.nodes:
            return False
        self.nodes[node.id] = node
        return True

    def note(self, text: str) -> None:
        """Adds a sentence, once."""
        if text not in self.notes:
            self.notes.append(text)


def run_id(run: KnownRun) -> str:
    """Returns the id of a run's node."""
    return f"run:{run.record.id}"


def version_id(commit_id: CommitId | bytes) -> str:
    """Returns the id of a version's node."""
    return f"version:{commit_id.hex()}"


def file_id(path: bytes, content: bytes) -> str:
    """Returns the id of a file's node."""
    return f"file:{content.hex()}:{path.decode('utf-8', 'surrogateescape')}"
