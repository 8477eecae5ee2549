"""Suggestions for unknown commands: the equivalent of a command of other tools, or similar names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_DELETE = "Delete it in the mount, as any file; `vfs purge PATH` takes it out of every version, for good."
_GO_BACK = (
    "`vfs undo` undoes the last operation, `vfs restore --discard latest` drops uncommitted changes, "
    "`vfs restore VERSION` restores a version."
)
_TAKE_OVER = (
    "`vfs merge NAME` merges the changes of another branch, `vfs restore VERSION PATH` restores single files of it."
)
_NO_SETTINGS = "There are no settings to make: VFS_AUTHOR sets the author, the rest is options (`vfs COMMAND --help`)."
_COMMIT = "`vfs commit -m MESSAGE` commits all changes as the next version, with PATHs the changes there."

_MEANT = {
    "add": f"Nothing has to be added: {_COMMIT}",
    "stage": f"Nothing has to be added: {_COMMIT}",
    "track": f"Nothing has to be added: {_COMMIT}",
    "save": _COMMIT,
    "snapshot": _COMMIT,
    "checkpoint": _COMMIT,
    "ci": _COMMIT,
    "checkout": "`vfs switch BRANCH` goes to a branch, `vfs restore [VERSION] PATH` restores files; "
    "every version is a directory of the mount, MNT/@v3.",
    "co": "`vfs switch BRANCH` goes to a branch, `vfs restore [VERSION] PATH` restores files.",
    "rm": _DELETE,
    "remove": _DELETE,
    "delete": _DELETE,
    "mv": "Rename it in the mount, as any file: `vfs diff` and `vfs log --follow` find it by its content.",
    "rename": "Rename it in the mount, as any file; `vfs branch --rename` renames a branch.",
    "cp": "Copy it in the mount, as any file: equal content is stored once.",
    "reset": _GO_BACK,
    "revert": _GO_BACK,
    "rollback": _GO_BACK,
    "clean": "`vfs restore --discard latest` drops uncommitted changes.",
    "stash": "No stash is needed: every branch keeps its own uncommitted changes through `vfs switch`.",
    "rebase": _TAKE_OVER,
    "cherry-pick": _TAKE_OVER,
    "worktree": "Every branch is a directory of the mount, MNT/@/branches/NAME, and every version, MNT/@v3.",
    "config": _NO_SETTINGS,
    "settings": _NO_SETTINGS,
    "unmount": "`vfs umount MNT` ends a mount.",
    "history": "`vfs log` lists the versions.",
    "versions": "`vfs log` lists the versions.",
    "whatchanged": "`vfs log` lists the versions, `vfs show VERSION` what one changed.",
    "list": "`vfs ls [VERSION] [PATH]` lists files, `vfs log` versions.",
    "ls-files": "`vfs ls -r` lists files.",
    "annotate": "`vfs blame PATH` shows the version that added each line.",
    "compare": "`vfs diff A B` compares.",
    "st": "`vfs status` shows uncommitted changes.",
    "br": "`vfs branch` lists the branches.",
    "reflog": "`vfs operations` lists the operations.",
    "redo": "`vfs undo` after `vfs undo` does it again.",
    "prune": "`vfs gc` removes objects that no version references.",
    "verify": "`vfs fsck` checks a repository.",
    "check": "`vfs fsck` checks a repository.",
    "df": "`vfs stats` shows the stored sizes, `vfs du` those of a version.",
    "get": "`vfs export VERSION DIR` writes a version as plain files.",
    "download": "`vfs export VERSION DIR` writes a version as plain files.",
    "archive": "`vfs export VERSION DIR` writes a version as plain files.",
    "upload": "`vfs import DIR` commits a directory, or copy it into the mount.",
    "edit": "`vfs describe VERSION -m MESSAGE` changes a message, `vfs amend` the newest version.",
    "version": "`vfs --version` prints the program's version.",
}
"""Suggestions by the command of another tool; complete sentences."""

_OPTIONS = {
    ("commit", "-a"): "All changes are taken without it.",
    ("commit", "--all"): "All changes are taken without it.",
    ("commit", "--amend"): "`vfs amend` changes the newest version.",
    ("log", "--oneline"): "One line a version is what `vfs log` prints.",
    ("log", "-p"): "`vfs show VERSION` and `vfs diff A B` show what changed.",
    ("switch", "-c"): "`vfs branch NAME` makes a branch.",
    ("branch", "-D"): "`vfs branch --delete --force NAME` removes one with all that is in it.",
    ("diff", "--cached"): "There is no index: `vfs diff` shows all that is not committed.",
    ("diff", "--staged"): "There is no index: `vfs diff` shows all that is not committed.",
}


def meant_command(word: str, commands: Iterable[str]) -> str:
    """Returns the equivalent of a command of other tools, or commands with a similar name, or ""."""
    if word.lower() in _MEANT:
        return _MEANT[word.lower()]
    close = difflib.get_close_matches(word.lower(), [*commands, *_MEANT], 3, 0.6)
    known = dict.fromkeys(each for each in close if each not in _MEANT)
    if known:
        return f"Did you mean {' or '.join(known)}?"
    return _MEANT[close[0]] if close else ""


def meant_option(command: str, option: str) -> str:
    """Returns the equivalent of an option that other tools have and a command here lacks, or ""."""
    return _OPTIONS.get((command, option), "")
