"""The `@` names: the version that a name names, and the version's one real directory.

The kernel allows a directory one place only. A version that is the branch's N-th has it at `@vN` in the mount's root,
any other commit at `@` and all 64 digits of its id; every other name is a symbolic link there. Refs are read for
every lookup, so every mount finds a new name at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from vfs.errors import InvalidInput, NotFound, VfsError
from vfs.fuse.inodes import Inode
from vfs.history.revision import head, resolve
from vfs.model.ids import CommitId
from vfs.model.layout import is_marked, is_numbered, marked, number_of, number_text
from vfs.model.objects import Version
from vfs.store.object_store import ObjectSource
from vfs.store.refs.operation import BRANCHES, TAGS
from vfs.store.refs.refs import Refs
from vfs.store.remote_blocks import in_one_search


class NameLink:
    """A symbolic link from a directory to a version, or to the same directory in it: `MNT/a/b/@v12`, `MNT/@latest`.

    `text` is the name without its mark. The target is computed when it is read: names move, directories too.
    """

    __slots__ = ("ino", "lookups", "parent", "text")

    def __init__(self, parent: int, text: bytes) -> None:
        self.ino = 0
        self.lookups = 0
        self.parent = parent
        self.text = text

    def same_as(self, other: Inode) -> bool:
        """Returns True if both are the same name in the same directory."""
        return isinstance(other, NameLink) and self.parent == other.parent and self.text == other.text

    @property
    def key(self) -> bytes:
        """Its inode number is derived from this."""
        return b"s" + self.parent.to_bytes(8, "little") + self.text

    @property
    def is_stable(self) -> bool:
        """True if it always names the same version: `vN`."""
        return is_numbered(self.text)


def link_target(version_name: bytes, depth: int, path: bytes) -> bytes:
    """Returns the target of a link, `depth` directories below the mount's root, that leads to `path` in a version."""
    target = b"../" * depth + version_name
    return target + b"/" + path if path else target


class Names:
    """The names of a repository's versions, seen from one branch."""

    def __init__(self, refs: Refs, source: ObjectSource, branch: str) -> None:
        self._refs = refs
        self._source = source
        self.branch = branch

    def find(self, text: bytes) -> Version | None:
        """Returns the version that a text without its mark names; None also for ambiguous digits."""
        if not text or is_marked(text):
            return None
        try:
            if is_numbered(text):
                return self.numbered(number_of(text))
            name = text.decode("utf-8")
            return in_one_search(lambda: resolve(self._refs, self._source, name, self.branch))
        except (NotFound, InvalidInput, UnicodeDecodeError):
            return None

    def numbered(self, number: int) -> Version | None:
        """Returns the branch's version of a number, or None, also for one that was forgotten."""
        return self._version(self._refs.version(self.branch, number))

    def is_forgotten(self, commit_id: CommitId) -> bool:
        """Returns True if a commit's content was deleted by `forget`."""
        return self._refs.is_forgotten(commit_id)

    def _version(self, commit_id: CommitId | None) -> Version | None:
        if commit_id is None or self._refs.is_forgotten(commit_id):
            return None
        return Version(commit_id, self._source.get_commit(commit_id))

    def head(self) -> Version | None:
        """Returns the branch's newest version, or None while it has none."""
        return head(self._refs, self._source, self.branch)

    def count(self) -> int:
        """Returns the number of the branch's versions."""
        return self._refs.version_count(self.branch)

    def directory_name(self, version: Version) -> bytes:
        """Returns the name in the mount's root that is a version's real directory."""
        number = version.commit.number
        if self._refs.version(self.branch, number) == version.id:
            return marked(number_text(number))
        return marked(version.id.hex().encode("ascii"))

    def has_branch(self, name: bytes) -> bool:
        """Returns True if a branch has this name; the branch of these names also before its first version."""
        if name == self.branch.encode():
            return True
        try:
            return self._refs.get(BRANCHES + name.decode("utf-8")) is not None
        except (VfsError, UnicodeDecodeError):
            return False

    def branch_head(self, name: bytes) -> Version | None:
        """Returns the newest version of a branch, or None."""
        return self._ref(BRANCHES, name)

    def branches(self) -> Iterator[bytes]:
        """Yields the names of the branches, not sorted, some twice."""
        yield self.branch.encode()
        for name, _ in self._refs.list(BRANCHES):
            yield name.removeprefix(BRANCHES).encode("utf-8")

    def tag(self, name: bytes) -> Version | None:
        """Returns the version of a tag, or None."""
        return self._ref(TAGS, name)

    def _ref(self, kind: str, name: bytes) -> Version | None:
        try:
            commit_id = self._refs.get(kind + name.decode("utf-8"))
        except (VfsError, UnicodeDecodeError):
            return None
        return self._version(commit_id)

    def tags(self) -> Iterator[bytes]:
        """Yields the names of the tags, sorted."""
        for name, _ in self._refs.list(TAGS):
            yield name.removeprefix(TAGS).encode("utf-8")
