"""What became of a working layer that an operation took up: the layer asks when it finds its generation consumed."""

from __future__ import annotations

from vfs.errors import Corrupt
from vfs.model.objects import Version
from vfs.overlay.open_journals import Consumed
from vfs.store.object_store import ObjectStore
from vfs.store.refs.refs import Refs


def consumed_layer(refs: Refs, store: ObjectStore, branch: str) -> Consumed:
    """Returns what the last operation that took up a branch's working layer made of it; raises Corrupt."""
    operation = refs.consumer(branch)
    if operation is None:
        raise Corrupt(f"the operation that took up the working layer of {branch!r} is not in the log any more")
    wanted = operation.base_of(branch)
    version = Version(wanted, store.get_commit(wanted)) if wanted is not None else None
    after = operation.after
    if after is None:
        whole = operation.whole
        return Consumed(version, None, Version(whole, store.get_commit(whole)) if whole is not None else None)
    shown = store.get_commit(after)
    return Consumed(version, (shown.root, shown.links))
