"""Later notes on commits, on both sides: the one that changed since they agreed; the pusher's, where both did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from vfs.backend.protocol import MissingKey
from vfs.model.ids import CommitId
from vfs.remote.format import Root
from vfs.repo.transfer.remotes import OpenRemote
from vfs.store.refs.operation import BRANCHES, Note, NoteChange

_DECODER = msgspec.json.Decoder(dict[str, Note])


def notes_to_push(opened: OpenRemote, refs: Sequence[str], root: Root) -> dict[str, Note]:
    """Returns the notes of a root with those that were changed here, of commits that it has or that are pushed now."""
    here, before, found = _here(opened), _before(opened), dict(root.notes)
    for commit in {*here, *before}:
        note = here.get(commit)
        if note == before.get(commit) or not _travels(opened, refs, CommitId(bytes.fromhex(commit))):
            continue
        if note is None:
            found.pop(commit, None)
        else:
            found[commit] = note
    return found


def fetched_notes(opened: OpenRemote, root: Root) -> Iterator[NoteChange]:
    """Yields the notes that were changed at the remote, and not here."""
    here, before = _here(opened), _before(opened)
    for commit in sorted({*root.notes, *before}):
        old, new = here.get(commit), root.notes.get(commit)
        if old != new and old == before.get(commit) and opened.repo.index.has(bytes.fromhex(commit)):
            yield NoteChange(commit, old, new)


def remember_notes(opened: OpenRemote, root: Root) -> None:
    """Keeps on which notes both sides agree."""
    here, before = _here(opened), _before(opened)
    agreed = {commit: note for commit, note in root.notes.items() if here.get(commit) == note}
    kept = {
        commit: note
        for commit, note in before.items()
        if commit not in agreed and (commit in here or commit in root.notes)
    }
    if (agreed | kept) != before:
        opened.repo.backend.put(_key(opened), msgspec.json.encode(agreed | kept))


def _travels(opened: OpenRemote, refs: Sequence[str], commit_id: CommitId) -> bool:
    if opened.known.has(commit_id):
        return True
    branches = [ref.removeprefix(BRANCHES) for ref in refs if ref.startswith(BRANCHES)]
    return any(opened.repo.refs.number_on(branch, commit_id) is not None for branch in branches)


def _here(opened: OpenRemote) -> dict[str, Note]:
    return {commit_id.hex(): note for commit_id, note in opened.repo.refs.notes()}


def _before(opened: OpenRemote) -> dict[str, Note]:
    try:
        return _DECODER.decode(opened.repo.backend.read(_key(opened)))
    except (MissingKey, msgspec.MsgspecError, UnicodeDecodeError):
        # Then a note that both have stays, and one that only one has goes to the other.
        return {}


def _key(opened: OpenRemote) -> str:
    return f"remotes/{opened.name}/notes"
