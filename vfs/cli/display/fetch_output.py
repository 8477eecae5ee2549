"""The result of a fetch, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vfs.api.hints import PURGED_HINT
from vfs.cli.terminal.output import echo, warn
from vfs.formats.quantities import human_count
from vfs.repo.transfer.fetch import Fetched, FetchedRef
from vfs.repo.transfer.ref_moves import PushedRef
from vfs.store.refs.operation import BRANCHES, RUNS


def echo_fetched(remote: str, done: Fetched) -> None:
    """Writes a line for each ref that moved, and a warning for tags that were left as they are."""
    for ref in done.refs:
        if ref.name.startswith(RUNS):
            continue
        kind, _, name = ref.name.partition("/")
        shown = f"{remote}/{name}" if f"{kind}/" == BRANCHES else f"tag {name}"
        where = f"v{ref.new_number} {ref.new.hex()[:8]}" if ref.new is not None else "removed there"
        echo(f"{shown}: {where}")
    echo_runs(remote, done.refs)
    for name, fault in sorted(done.refused.items()):
        warn(f"{remote} has {name}, which was not fetched: {fault}")
    for name in done.kept:
        warn(f"{remote} has a tag {name!r} of another version; yours was left as it is")
    if done.purged:
        warn(
            f"{human_count(done.purged, 'version')} that you have had files that were purged on {remote}. {PURGED_HINT}"
        )


def echo_runs(remote: str, refs: Sequence[FetchedRef | PushedRef]) -> None:
    """Writes how many runs came or went."""
    runs = [ref for ref in refs if ref.name.startswith(RUNS)]
    gone = sum(ref.new is None for ref in runs)
    new = sum(ref.old is None for ref in runs)
    counts = ((new, "new"), (len(runs) - new - gone, "changed by a purge"), (gone, "removed"))
    words = [f"{count} {word}" for count, word in counts if count]
    if words:
        echo(f"runs: {', '.join(words)} ({remote})")


def ref_documents(refs: Sequence[FetchedRef] | Sequence[PushedRef]) -> list[dict[str, Any]]:
    """Returns the part of a JSON document about the refs that a fetch or a push has moved."""
    return [
        {
            "name": ref.name,
            "old": ref.old.hex() if ref.old is not None else None,
            "new": ref.new.hex() if ref.new is not None else None,
            "version": ref.new_number or None,
        }
        for ref in refs
    ]


def fetched_document(remote: str, done: Fetched, seconds: float) -> dict[str, Any]:
    """Returns the JSON document of a fetch."""
    return {
        "remote": remote,
        "refs": ref_documents(done.refs),
        "purged": done.purged,
        "tags_kept": list(done.kept),
        "refused": dict(done.refused),
        "bytes": done.bytes,
        "bytes_elsewhere": done.bytes_elsewhere,
        "seconds": round(seconds, 3),
        "seq": done.seq,
    }
