"""What opening a repository had to mend, in words for a person."""

from __future__ import annotations

from collections.abc import Iterator

from vfs.errors import Advice, Hint, Notice, describe_error
from vfs.store.object_store import ObjectStore
from vfs.store.packs.index import Rebuilt
from vfs.store.refs.operation_log import OperationLog
from vfs.store.refs.refs import Refs


def log_damage(refs: Refs) -> Iterator[Notice]:
    """Warns of damaged lines of the log, in the process that reads them first: the tables follow then."""
    damage = refs.damage
    if damage:
        count = f"{len(damage)} places" if len(damage) > 1 else "a place"
        where = f"{count} in the operation log cannot be followed ({damage[0].reason})"
        yield Notice(f"{where}: what was done there is missing", Hint(Advice.CHECK_MORE))


def index_rebuilt(reason: str, rebuilt: Rebuilt, log: OperationLog, refs: Refs, store: ObjectStore) -> Iterator[Notice]:
    """Says why the index was made again, and what is damaged or missing in packs and log."""
    from vfs.repo.operation_log_truncation import truncation_signs

    if rebuilt.packs:
        yield Notice(f"{reason}: rebuilt from {rebuilt.packs} packs and the operation log")
    if rebuilt.damage:
        yield Notice(f"{len(rebuilt.damage)} places in packs are damaged", Hint(Advice.CHECK_PACKS))
    # A log that was longer: the index would have known.
    yield from map(Notice, truncation_signs(log, refs, store, rebuilt.commits))


def index_in_memory(error: OSError, rebuilt: Rebuilt) -> Notice:
    """Says that nothing can be written, and why."""
    why = describe_error(error)[0]
    return Notice(f"the repository can only be read ({why}): the index of {rebuilt.packs} packs is in memory")
