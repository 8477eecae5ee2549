"""What all formats say of a run: names and URIs for its data, its files, its program and the run itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

from vfs.model.run_record import RUN_FORMAT, Output, RunRecord, Source

PRODUCER = f"urn:vfs-versions:run-record:{RUN_FORMAT}"
PROGRAM = "vfs-versions"
_KEPT = "/"
"""What a URI's path may have as it is."""


class DescribedSource(NamedTuple):
    """Data that a run read: a name for people, a URI of the version, and the source."""

    name: str
    uri: str
    source: Source


class DescribedOutput(NamedTuple):
    """A file that a run wrote, with a URI."""

    name: str
    uri: str
    output: Output


def repository_uri(record: RunRecord) -> str:
    """Returns a URI of the repository, which its clones share."""
    return f"urn:vfs:{_quoted(record.repository or 'unknown')}"


def run_uri(record: RunRecord) -> str:
    """Returns a URI of a run."""
    return f"{repository_uri(record)}:run:{record.id}"


def run_uuid(record: RunRecord, run_id: str | None = None) -> UUID:
    """Returns a UUID of a run, by its id and repository; of another run of the repository by `run_id`."""
    return uuid5(NAMESPACE_URL, f"{repository_uri(record)}:run:{run_id or record.id}")


def command_text(record: RunRecord) -> str:
    """Returns the command as it could be typed."""
    return valid(shlex.join(record.command)) or "unknown"


def sources(record: RunRecord) -> Iterator[DescribedSource]:
    """Yields what a run opened or listed."""
    for source in record.sources:
        if source.opened or source.listed:
            name = valid(f"{source.branch}@v{source.number}" if source.branch else source.commit[:8] or "unknown")
            uri = f"{repository_uri(record)}:commit:{source.commit or 'none'}"
            if source.known == "snapshot":
                name, uri = f"{name} with uncommitted changes", f"{uri}:changed-for:{record.id}"
            yield DescribedSource(name, uri, source)


def outputs(record: RunRecord) -> Iterator[DescribedOutput]:
    """Yields the files that a run wrote, without those that it removed."""
    for output in record.outputs:
        if not output.removed:
            path = _quoted(output.path)
            uri = f"file://{path}" if output.place == "outside" else f"{run_uri(record)}/outputs/{path}"
            yield DescribedOutput(valid(output.path), uri, output)


def values(record: RunRecord) -> Iterator[tuple[str, str, str]]:
    """Yields (kind, name, value) of parameters and metrics; the kind is `param` or `metric`."""
    for name, param in record.params.items():
        yield "param", valid(name), valid(param)
    for name, metric in record.metrics.items():
        yield "metric", valid(name), valid(str(metric))


def valid(text: str) -> str:
    """Returns a text without lone surrogates, which other programs refuse: names may be no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe=_KEPT)
