"""Composed views: a tree that is no version, stored so that a mount shows it.

It is a commit that no ref and no operation names: a mount and every command find it by all 64 digits of its id, nothing
lists it, and a sweep removes it with the few nodes and bytes that only it has. Bytes of files are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vfs.history.merge_trees import Tree
from vfs.model.objects import COMPOSED_META, Commit, Version
from vfs.repo.repository import Repository
from vfs.store.object_store import ObjectSink
from vfs.store.object_writer import ObjectWriter


@contextmanager
def composed_view(repo: Repository, base: Version, compose: Callable[[ObjectSink], Tree]) -> Iterator[Version]:
    """Stores what `compose` makes and yields it as a commit on top of `base`, kept from sweeps until the end.

    The same tree on the same base is the same commit. Raises Busy while a sweep runs, ReadOnly, OSError.
    """
    with repo.keeping_objects():
        with ObjectWriter(repo.store) as writer:
            tree = compose(writer)
            commit = Commit(
                number=base.commit.number + 1,
                parents=(base.id,),
                root=tree.root,
                links=tree.links,
                time_ns=base.commit.time_ns,
                author="",
                message="composed view",
                meta=(COMPOSED_META,),
            )
            commit_id = writer.put_commit(commit)
            writer.flush()
        yield Version(commit_id, commit)
