"""Names of versions, as people type them, to commits."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

from vfs.errors import Advice, Corrupt, Hint, InvalidInput, NotFound
from vfs.history.time_expressions import parse_moment
from vfs.model.ids import ID_BYTES, SHORT_HEX, CommitId
from vfs.model.layout import (
    LATEST,
    Digits,
    Moment,
    Newest,
    Number,
    has_steps,
    parse_revision,
    ref_name_objection,
    split_steps,
    unmarked,
)
from vfs.model.objects import Version
from vfs.store.object_store import ObjectSource
from vfs.store.refs.operation import BRANCHES, REMOTE_REFS, TAGS
from vfs.store.refs.refs import Refs

_NS = 1_000_000_000
_NAME_CHARACTERS_MAX = 100
_CLOSE_NAMES_MAX = 3


class UnknownVersion(NotFound):
    """No version has this name."""

    code = "unknown-version"


class ForgottenVersion(UnknownVersion):
    """The version was forgotten: its place in the history is known, and its content is gone."""

    code = "forgotten-version"


class AmbiguousVersion(InvalidInput):
    """More than one commit starts with these digits."""

    code = "ambiguous-version"


def resolve(refs: Refs, source: ObjectSource, text: str, branch: str, zone: tzinfo | None = UTC) -> Version:
    """Returns the version that a name stands for; a leading `@` is ignored.

    In this order: `latest` and `HEAD`, `vN` (of `branch`), a tag, a branch (its newest version), `REMOTE/BRANCH` as it
    was last seen, a commit id or its
    first 8 or more hex digits, a date or time (in `zone`, see `parse_span`): the branch's last version up to the end of
    what is stated, so of the day, minute or second. All 64 digits also name a stored commit that never was a version,
    as a composed view is. `~N` behind any of them is the N-th version before it, along first parents; `~` is `~1`.
    Raises UnknownVersion, ForgottenVersion or AmbiguousVersion.
    """
    name = unmarked(text)
    commit_id = _find(refs, source, name, branch, zone)
    back = split_steps(name) if commit_id is None else None
    if back is not None:
        first, steps = back
        start = _find(refs, source, first, branch, zone)
        if start is None:
            raise _unknown(refs, first, branch, zone)
        commit_id = _steps_back(refs, source, start, steps, branch)
        if commit_id is None:
            number = source.get_commit(start).number
            raise UnknownVersion(
                f"there is no version {name!r}: {first} is v{number}, {steps} before it is none",
                hint=Hint(Advice.LIST_VERSIONS),
            )
    if commit_id is None:
        raise _unknown(refs, name, branch, zone)
    version = Version(commit_id, source.get_commit(commit_id))
    forgotten_ns = refs.forgotten_ns(commit_id)
    if forgotten_ns is not None:
        day = datetime.fromtimestamp(forgotten_ns // _NS, zone).date()
        raise ForgottenVersion(
            f"{version.name} ({commit_id.hex()[:SHORT_HEX]}) was forgotten on {day}",
            hint=Hint(Advice.FORGOTTEN_FOR_GOOD),
        )
    return version


def head(refs: Refs, source: ObjectSource, branch: str) -> Version | None:
    """Returns a branch's newest version, or None while it has none."""
    commit_id = refs.get(BRANCHES + branch)
    return None if commit_id is None else Version(commit_id, source.get_commit(commit_id))


def check_ref_name(name: str) -> None:
    """Raises InvalidInput, with the reason, for a text that cannot name a tag or a branch.

    Such a name is a file name in `@/tags` and must not hide, or be hidden by, another way to name a version.
    """
    reason = _name_fault(name) or ("it contains `~`" if has_steps(name) else "")
    if reason:
        raise InvalidInput(f"{name!r} cannot be a name: {reason}", hint="Choose a name like `baseline-2`.")


def _name_fault(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > _NAME_CHARACTERS_MAX:
        return f"it is longer than {_NAME_CHARACTERS_MAX} characters"
    if not name.isprintable() or " " in name:
        return "it has spaces, control characters or other invisible characters"
    return ref_name_objection(name) or (f"it starts with `{name[0]}`" if name[0] in "-." else "")


def _steps_back(refs: Refs, source: ObjectSource, start: CommitId, steps: int, branch: str) -> CommitId | None:
    """Returns the commit that comes so many first parents before another one, or None where there are not so many."""
    number = source.get_commit(start).number
    if steps >= number:
        return None
    if refs.version(branch, number) == start:
        return refs.version(branch, number - steps)
    for _ in range(steps):
        parents = source.get_commit(start).parents
        if not parents:
            return None
        start = CommitId(parents[0])
    return start


def _find(refs: Refs, source: ObjectSource, name: str, branch: str, zone: tzinfo | None) -> CommitId | None:
    match parse_revision(name):
        case Newest():
            return refs.get(BRANCHES + branch)
        case Number(number):
            return refs.version(branch, number)
        case Digits(digits):
            return _by_digits(refs, source, digits)
        case Moment(text):
            moment = parse_moment(text, zone)
            return None if moment is None else refs.version_at(branch, moment)
        case _:
            remote, _, there = name.partition("/")
            if there and not _name_fault(remote) and not _name_fault(there):
                # Tags and branches of this repository have no `/`.
                return refs.get(REMOTE_REFS + name)
            # Also with `~`: older programs allowed it in names.
            return None if _name_fault(name) else refs.get(TAGS + name) or refs.get(BRANCHES + name)


def _by_digits(refs: Refs, source: ObjectSource, digits: str) -> CommitId | None:
    found = refs.by_prefix(digits)
    if len(found) > 1:
        length = SHORT_HEX
        while len({commit_id.hex()[:length] for commit_id in found}) < len(found):
            length += 1
        names = ", ".join(commit_id.hex()[:length] for commit_id in found)
        raise AmbiguousVersion(f"{digits} names {len(found)} commits: {names}", hint="Give more digits.")
    if not found and len(digits) == 2 * ID_BYTES:
        return _stored(source, CommitId(bytes.fromhex(digits)))
    return found[0] if found else None


def _stored(source: ObjectSource, commit_id: CommitId) -> CommitId | None:
    """Returns the id of a commit that is stored and never was a version, as a composed view; None for none."""
    if not source.has(commit_id):
        # A sweep or a purge removed it; a cache may still have it.
        return None
    try:
        source.get_commit(commit_id)
    except Corrupt:
        # Nothing has this id, or an object of another kind.
        return None
    return commit_id


def _unknown(refs: Refs, name: str, branch: str, zone: tzinfo | None) -> UnknownVersion:
    count = refs.version_count(branch)
    message = f"there is no version {name!r}" if name else "the name of the version is empty"
    if count == 0:
        return UnknownVersion(message, hint=Hint(Advice.MAKE_FIRST_VERSION))
    moment = parse_moment(name, zone)
    if moment is not None:
        return UnknownVersion(f"{message}: it is before v1", hint=Hint(Advice.VERSION_TIMES))
    if "^" in name:
        return UnknownVersion(message, hint=f"One before it is {name.partition('^')[0]}~1, two before it ~2.")
    import difflib

    close = difflib.get_close_matches(name, list(_names(refs, count)), _CLOSE_NAMES_MAX, 0.6)
    if close:
        hint = Hint(Advice.CLOSE_VERSIONS, {"names": " or ".join(close), "count": str(count)})
    else:
        hint = Hint(Advice.KNOWN_VERSIONS, {"count": str(count)})
    return UnknownVersion(message, hint=hint)


def _names(refs: Refs, count: int) -> Iterator[str]:
    yield LATEST
    yield f"v{count}"
    for prefix in (TAGS, BRANCHES, REMOTE_REFS):
        for name, _ in refs.list(prefix):
            yield name.removeprefix(prefix)
