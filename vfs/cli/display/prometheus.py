"""A repository's numbers in the text format of Prometheus, for the textfile collector of its node exporter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vfs.control.mount_states import mount_states
from vfs.repo.stats import Stats

_STATES = ("live", "dead", "stopped", "silent", "moved")

_GAUGES = (
    ("versions", "", "Versions that branches and tags lead to."),
    ("tags", "", "Tags."),
    ("head_files", "", "Files of the newest version."),
    ("head_bytes", "", "Bytes of the newest version."),
    ("logical_bytes", "", "Bytes of all versions, as copies would take them."),
    ("unique_bytes", "", "Bytes of the distinct chunks, before compression."),
    ("chunks", "", "Stored chunks."),
    ("packs", "", "Pack files."),
    ("stored_data_bytes", "stored_bytes", "Bytes of the packs, by kind."),
    ("stored_tree_bytes", "stored_bytes", ""),
    ("index_bytes", "", "Bytes of the index, which can be made again."),
    ("log_bytes", "", "Bytes of the operation log."),
)
"""Fields of `Stats`, the name of the metric where it is another one, and what it is."""


def metrics(repository: Path, found: Stats) -> Iterator[str]:
    """Yields the lines: sizes of a repository, and its mounts by state."""
    place = f'repository="{_escaped(str(repository))}"'
    for field, name, text in _GAUGES:
        name = f"vfs_{name or field}"
        if text:
            yield from _head(name, text)
        kind = {"stored_data_bytes": ',kind="data"', "stored_tree_bytes": ',kind="tree"'}.get(field, "")
        yield f"{name}{{{place}{kind}}} {getattr(found, field)}"
    counts: Counter[str] = Counter(each.state for each in mount_states() if each.mount.repository == repository)
    yield from _head("vfs_mounts", "Mounts of the repository that this user sees, by state.")
    for state in _STATES:
        yield f'vfs_mounts{{{place},state="{state}"}} {counts[state]}'


def _head(name: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} gauge"


def _escaped(text: str) -> str:
    """Returns the value of a label; bytes that are no UTF-8 are replaced, as the format has no way to write them."""
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
