"""Which commits purges have replaced by others: purges of this repository and of remotes (docs/durability.md, T11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vfs.model.ids import CommitId
from vfs.store.refs.operation import SettingChange
from vfs.store.refs.operation_args import PurgeLogArgs, TransferLogArgs
from vfs.store.refs.refs import Refs

_REPLACED = "replaced"
"""The setting that says that there are any."""
_PAIRS_IN_LINE = 4000


def settings_of_replaced(refs: Refs) -> tuple[SettingChange, ...]:
    """Returns what an operation changes, beside its arguments, that tells of replaced commits."""
    return () if refs.setting(_REPLACED) else (SettingChange(_REPLACED, "", "yes"),)


def replaced_commits(refs: Refs) -> Mapping[str, str]:
    """Returns by replaced commit the one in its place, in hex. Reads the whole log if there are any."""
    found: dict[str, str] = {}
    wanted = 0
    for operation in refs.operations() if refs.setting(_REPLACED) else ():
        args = operation.args
        if isinstance(args, PurgeLogArgs):
            # The last line of a purge is its commit point; lines before it have the rest.
            wanted = args.rewritten if args.rewritten is not None else wanted
            if wanted <= 0:
                continue
            wanted -= len(args.gone)
        elif not isinstance(args, TransferLogArgs):
            continue
        for gone, made in zip(args.gone, args.made, strict=False):
            found.setdefault(gone, made)
    return found


def in_lines(pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Returns replaced commits and those in their place, as lines of the log have room for them."""
    parts = [pairs[start : start + _PAIRS_IN_LINE] for start in range(0, len(pairs), _PAIRS_IN_LINE)]
    return [(tuple(gone for gone, _ in part), tuple(made for _, made in part)) for part in parts]


def newest_of(replaced: Mapping[str, str], commit: CommitId) -> CommitId:
    """Returns what is in the place of a commit after all purges; itself where none has replaced it."""
    text = commit.hex()
    for _ in range(len(replaced)):
        if text not in replaced:
            break
        text = replaced[text]
    return CommitId(bytes.fromhex(text))
