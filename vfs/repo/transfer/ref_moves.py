"""Which refs a push moves, and what else goes into the remote's next root; what is refused, and why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from vfs.errors import Advice, Conflict, Hint, NotFound
from vfs.history.merge_bases import is_ancestor
from vfs.model.ids import CommitId
from vfs.remote.format import RefMove, Root
from vfs.repo.retention.replaced_commits import newest_of
from vfs.repo.transfer.note_transfer import notes_to_push
from vfs.repo.transfer.remotes import OpenRemote, adopted
from vfs.repo.transfer.run_transfer import runs_to_push
from vfs.store.refs.operation import BRANCHES, TAGS
from vfs.store.refs.refs import PROTECTED


class PushRefused(Conflict):
    """The remote has versions of a branch that are not here."""

    code = "push-refused"


class PushedRef(NamedTuple):
    """A ref that a push moved, made or removed; ids are those of commits, None for none."""

    name: str
    old: CommitId | None
    new: CommitId | None
    old_number: int
    new_number: int


class Asked(NamedTuple):
    """What a push is asked for: full names of refs to send, and of branches to remove; whether runs go, too.

    `force`: remove a branch though versions go with it.
    """

    refs: Sequence[str]
    removed: Sequence[str] = ()
    runs: bool = True
    force: bool = False


class Moves:
    """The moves of one push, for each root that it meets."""

    def __init__(self, opened: OpenRemote, asked: Asked, replaced: Mapping[str, str]) -> None:
        self._opened = opened
        self._repo = opened.repo
        self._asked = asked
        self._refs = asked.refs
        self._replaced = replaced

    def moves(self, root: Root) -> list[PushedRef]:
        """Returns what moves from a root on; raises PushRefused, Conflict, NotFound."""
        moves = [self._removal(root, ref) for ref in self._asked.removed]
        runs = dict(self._runs(root)) if self._asked.runs else {}
        going = {ref for ref, new in runs.items() if new is None} | set(self._asked.removed)
        # A purge goes with every push, for all that the remote has of it.
        purged = [
            ref
            for ref, text in root.refs.items()
            if text in self._replaced and ref not in self._refs and ref not in going
        ]
        for ref in (*self._refs, *purged):
            old = _commit_of(root, ref)
            new = self._target(ref, old)
            if old == new:
                continue
            if old is not None:
                self._require_forward(root, ref, old, new)
            moves.append(PushedRef(ref, old, new, self._number(old), self._number(new)))
        moves += [PushedRef(ref, _commit_of(root, ref), new, 0, 0) for ref, new in runs.items()]
        return moves

    def _runs(self, root: Root) -> Iterator[tuple[str, CommitId | None]]:
        repo = self._repo
        heads = [head for ref in self._refs if (head := repo.refs.get(ref)) is not None]

        def is_there(commit_id: CommitId) -> bool:
            return self._opened.known.has(commit_id) or (
                repo.index.has(commit_id) and any(is_ancestor(repo.store, commit_id, head) for head in heads)
            )

        branches = {
            ref.removeprefix(BRANCHES)
            for ref in {*root.refs, *self._refs} - set(self._asked.removed)
            if ref.startswith(BRANCHES)
        }
        return runs_to_push(self._opened, root, is_there, branches)

    def _removal(self, root: Root, ref: str) -> PushedRef:
        """Returns the removal of a branch; raises NotFound, Conflict, PushRefused for versions not fetched."""
        name, branch, old = self._opened.name, ref.removeprefix(BRANCHES), _commit_of(root, ref)
        if old is None:
            raise NotFound(f"{name} has no branch {branch!r}", hint=Hint(Advice.FETCH_FIRST, {"remote": name}))
        if ref in root.protected:
            raise Conflict(f"{branch!r} is protected on {name} and stays")
        repo = self._repo
        if not repo.index.has(old) or repo.refs.get(self._opened.ref(branch)) != old:
            raise PushRefused(
                f"{name} has versions of {branch} that are not here", hint=Hint(Advice.FETCH_FIRST, {"remote": name})
            )
        others = {CommitId(bytes.fromhex(text)) for other, text in root.refs.items() if other != ref}
        others |= {at for start in (BRANCHES, TAGS) for _, at in repo.refs.list(start)}
        if not self._asked.force and not any(
            repo.index.has(other) and is_ancestor(repo.store, old, other) for other in others
        ):
            raise Conflict(
                f"no other branch, there or here, has v{self._number(old)} of {branch}",
                hint="With --force the branch is removed all the same.",
            )
        return PushedRef(ref, old, None, self._number(old), 0)

    def _target(self, ref: str, old: CommitId | None) -> CommitId:
        """Returns where a ref is to be: where it is here, or at what a purge has put in the remote's place."""
        here = self._repo.refs.get(ref) if ref in self._refs else None
        if old is not None and old.hex() in self._replaced:
            made = newest_of(self._replaced, old)
            if here is None or is_ancestor(self._repo.store, here, made):
                return made
        assert here is not None
        return here

    def _require_forward(self, root: Root, ref: str, old: CommitId, new: CommitId) -> None:
        short = ref.partition("/")[2]
        if ref in root.protected and ref in self._protected(root):
            raise Conflict(f"{short!r} is protected on {self._opened.name} and stays where it is")
        made = newest_of(self._replaced, old)
        if made != old and (new == made or (ref.startswith(BRANCHES) and is_ancestor(self._repo.store, made, new))):
            return
        if ref.startswith(TAGS):
            raise PushRefused(
                f"{self._opened.name} has a tag {short!r} of another version ({old.hex()[:8]})",
                hint=Hint(Advice.FETCH_FIRST, {"remote": self._opened.name}),
            )
        if self._repo.index.has(old) and is_ancestor(self._repo.store, old, new):
            return
        raise PushRefused(
            self._refusal(root, ref, new),
            hint=Hint(Advice.PULL_FIRST, {"remote": self._opened.name}),
        )

    def _refusal(self, root: Root, ref: str, new: CommitId) -> str:
        """Returns what the remote has that is not here, and from whom."""
        mine = self._number(new)
        seen = self._repo.refs.get(self._opened.ref(ref.removeprefix(BRANCHES)))
        known = {root.refs[ref]} if seen is None else {seen.hex()}
        told = []
        for line in reversed(root.recent):
            for move in line.refs:
                if move.name == ref and move.new not in known:
                    told.append(f"{_versions(move)} ({line.author}, {_ago(line.time_ns)})")
                    known.add(move.new)
            if len(told) >= 3 or (seen is not None and any(move.old == seen.hex() for move in line.refs)):
                break
        what = ", ".join(reversed(told)) or "versions that are not here"
        branch = ref.removeprefix(BRANCHES)
        return f"{self._opened.name} has {what} of {branch}, and you have your own v{mine}"

    def _number(self, commit_id: CommitId | None) -> int:
        if commit_id is None or not self._repo.index.has(commit_id):
            return 0
        return self._repo.store.get_commit(commit_id).number

    def other_changes(self, root: Root) -> dict[str, object]:
        """Returns what else goes into the next root: forgotten versions, protection."""
        changes: dict[str, object] = {}
        refs, known = self._repo.refs, self._opened.known
        # The newest version of a branch there is in use.
        named = {text for name, text in root.refs.items() if name not in self._refs}
        forgotten = {
            commit_id.hex(): time_ns // 10**9
            for commit_id, time_ns in refs.forgotten()
            if commit_id.hex() not in root.forgotten and commit_id.hex() not in named and known.has(commit_id)
        }
        if forgotten:
            changes["forgotten"] = {**root.forgotten, **forgotten}
        replaced = {gone: made for gone, made in self._replaced.items() if gone not in root.replaced}
        if replaced:
            changes["replaced"] = {**root.replaced, **replaced}
        notes = {
            commit: note
            for commit, note in notes_to_push(self._opened, self._refs, root).items()
            if commit not in root.replaced and commit not in self._replaced
        }
        if notes != root.notes:
            changes["notes"] = notes
        protected = self._protected(root)
        if protected != set(root.protected):
            changes["protected"] = tuple(sorted(protected))
        return changes

    def _protected(self, root: Root) -> set[str]:
        """Returns the refs that are protected after the push: what was protected here, without what was ended here."""
        refs, name = self._repo.refs, self._opened.name
        here = {ref for ref in self._refs if refs.setting(PROTECTED + ref)}
        ended = {ref for ref in self._refs if ref not in here and refs.setting(adopted(name, ref))}
        return (set(root.protected) | here) - ended


def _commit_of(root: Root, ref: str) -> CommitId | None:
    text = root.refs.get(ref)
    return CommitId(bytes.fromhex(text)) if text is not None else None


def _versions(move: RefMove) -> str:
    first, last = move.old_number + 1, move.new_number
    return f"v{last}" if first >= last else f"v{first} to v{last}"


def _ago(time_ns: int) -> str:
    seconds = max(0, (time.time_ns() - time_ns) // 10**9)
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    return "just now"
