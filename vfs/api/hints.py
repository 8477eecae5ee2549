"""Hints as sentences for a user of a terminal, where the core gives an advice: they name commands."""

from __future__ import annotations

import re
from shlex import quote

from vfs.errors import Advice, Hint

_WORDS = {
    Advice.ABORT_LOST_MERGE: (
        "`vfs merge --abort` cancels the merge; `vfs undo` after it restores it with your edits, "
        "and every conflict without markers is open again."
    ),
    Advice.ABORT_WHOLE_MERGE: "`vfs merge --abort` cancels the whole merge; `vfs undo` after it restores them.",
    Advice.ADD_DATA: "Copy data into the mount first, or `vfs import DIR -m MESSAGE`.",
    Advice.BEGIN_MERGE: "`vfs merge NAME` begins one.",
    Advice.CHECK_AND_REMOUNT: "See `vfs fsck`, then unmount and mount again; until then nothing can be written.",
    Advice.CHECK_DATA: "Run `vfs fsck --read-data` to see which versions and paths are concerned.",
    Advice.CHECK_LOG: "`vfs fsck` lists the damage of the log; nothing was changed.",
    Advice.CHECK_MORE: "`vfs fsck` shows the details.",
    Advice.CHECK_PACKS: "Run `vfs fsck --read-data`.",
    Advice.CLOSE_VERSIONS: "Did you mean {names}? Versions go from v1 to v{count}; `vfs log` lists them.",
    Advice.COMMIT_MAKES_ONE: "`vfs commit` makes one.",
    Advice.COMMIT_OR_DISCARD: "Commit them first (`vfs commit`), or drop them (`vfs restore --discard latest`).",
    Advice.COMMIT_OR_DISCARD_ITS_CHANGES: "Commit its changes first, or drop them (`vfs restore --discard latest`).",
    Advice.COMMIT_OR_DISCARD_NOW: "Commit them first (`vfs commit`), or drop them with --discard.",
    Advice.COMMIT_OR_DISCARD_THEN_UNDO: (
        "Commit them (`vfs commit`) or drop them (`vfs restore --discard latest`), each an operation of its own."
    ),
    Advice.COPY_AND_DISCARD: "Copy what you changed elsewhere, then `vfs restore --discard latest` and copy it back.",
    Advice.RESOLVE_CONFLICTS: (
        "Remove the conflict markers, or resolve with `vfs merge --ours PATH`, `--theirs PATH` or `--resolved PATH`."
    ),
    Advice.FAILED_DISK: (
        "The disk has failed: see the kernel's log (`dmesg`); `vfs fsck --read-data` checks what is stored."
    ),
    Advice.FETCH_CONTENTS: "Fetch them first: `vfs fetch {remote} --all`.",
    Advice.FETCH_FIRST: "`vfs fetch {remote}` shows it as a branch of the remote; delete or rename yours, then push.",
    Advice.FINISH_MERGE: "`vfs merge --continue` finishes it, `vfs merge --abort` cancels it.",
    Advice.FORGOTTEN_FOR_GOOD: "What was in it is gone; `vfs log` shows which versions are left.",
    Advice.KNOWN_VERSIONS: "Versions go from v1 to v{count}; `vfs log` lists them.",
    Advice.LIST_BRANCHES: "`vfs branch` lists the branches.",
    Advice.LIST_CONFLICTS: "`vfs status` lists the conflicts.",
    Advice.LIST_FILES: "`vfs ls VERSION` lists what a version has.",
    Advice.LIST_IGNORED: "Move them away, or commit them by name: `vfs status --ignored` lists them.",
    Advice.LIST_OPERATIONS: "`vfs operations` lists the operations.",
    Advice.LIST_OR_ADD_REMOTE: "`vfs remote list` lists the remotes, `vfs remote add NAME URL` adds one.",
    Advice.LIST_OR_MAKE_BRANCH: "`vfs branch` lists them, `vfs branch NAME` makes one.",
    Advice.LIST_RUNS: "`vfs runs` lists the runs.",
    Advice.LIST_TAGS: "`vfs tag` lists the tags.",
    Advice.LIST_VERSIONS: "`vfs log` lists them.",
    Advice.LOG_OF_PATH: "`vfs log PATH` shows the versions that changed it.",
    Advice.MAKE_FIRST_VERSION: "Nothing is committed yet: make the first version with `vfs commit`.",
    Advice.MAKE_REPOSITORY: "Make one with `vfs init {path}`.",
    Advice.MAKE_ROOM: (
        "Free space there (`vfs gc` frees what no version needs, removing or discarding uncommitted files "
        "frees theirs), then try again; nothing that was stored is lost."
    ),
    Advice.MAKE_ROOM_AND_REMOUNT: (
        "Free space on the disk, then unmount and mount again; until then nothing can be written."
    ),
    Advice.MOUNT_IT: "Mount it: `vfs mount REPO MNT`.",
    Advice.MOVE_IT_BACK: (
        "Move it back; or unmount it (`vfs umount MNT`) and mount it from where it is. What was written "
        "into the mount is kept. In a container the repository has to be at this path, too."
    ),
    Advice.NAME_NEW_DIRECTORY: "Name a new directory for the repository; `vfs import` then imports the data.",
    Advice.NAME_REMOTE: "Name one: `vfs push NAME`, `vfs pull NAME`.",
    Advice.PULL_FIRST: ("`vfs pull` puts your versions after those of {remote}: their numbers stay, yours follow."),
    Advice.PULL_PURGED: (
        "`vfs fetch`, then `vfs pull --rebase` makes your own versions again behind the remote's, without what was "
        "purged."
    ),
    Advice.PUSH_PURGE: (
        "`vfs push` sends the purge; if it is refused, `vfs fetch --purged` gets them, `vfs purge` removes the paths "
        "from them too, and `vfs pull`, then `vfs push` end it."
    ),
    Advice.PUSH_TO_REMOTE: "It is the name of a remote: `vfs push --remote {remote}`.",
    Advice.READ_ONLY_DISK: (
        "Versions can be read there (`vfs mount --read-only`, `vfs export`); for the rest, make it writable."
    ),
    Advice.REBUILD_INDEX: (
        "Run `vfs fsck --rebuild-index`; nothing is lost, the index is made from the packs and the log."
    ),
    Advice.RECOVER: "`vfs recover` takes all that is whole, and keeps the damaged files beside the others.",
    Advice.REFUSED_BY_SERVICE: (
        "The remote's service refused the request: `vfs remote show NAME` shows its address and options. "
        "Nothing was lost here."
    ),
    Advice.RESTORE_FROM: "Restore what you need: `vfs restore {version} PATH`, then commit.",
    Advice.RESTORE_LOG: "Restore the file `log` from a copy; `vfs fsck --rebuild-index` accepts it as it is.",
    Advice.REWRITE_OR_RESTORE: (
        "Write the file again, or restore the committed one: `vfs restore --discard latest {path}`."
    ),
    Advice.SEE_LOG: "Another process changed it meanwhile; look at `vfs log` and try again.",
    Advice.SEE_NEWEST_VERSION: "Look at it (`vfs log -n 1`), then try again.",
    Advice.SHOW_OR_DESCRIBE: (
        "`vfs show {version}` lists them; `vfs describe {version} -m MESSAGE` changes its message."
    ),
    Advice.SWITCH_FIRST: "`vfs switch` to another one first.",
    Advice.SWITCH_TO: "`vfs switch {branch}` goes there.",
    Advice.UNDO_THAT_FIRST: "`vfs undo` undoes that one first.",
    Advice.UNMOUNT_FIRST: "Unmount it first with `vfs umount {mountpoint}`.",
    Advice.UNPROTECT: "`vfs {kind} --unprotect {name}` lets it move again.",
    Advice.VERSIONS_LEFT: "`vfs log` shows which versions are left.",
    Advice.VERSION_TIMES: "`vfs log` shows when versions were made.",
}

PURGED_HINT = (
    "`vfs pull` takes those without them, for each branch; `vfs gc --grace 0 --undo 0` then frees the contents."
)


def hint_text(hint: Hint | str) -> str:
    """Returns a hint as a sentence, or nothing where there is none."""
    return _WORDS[hint.advice].format_map(hint.args) if isinstance(hint, Hint) else hint


def hint_for_elsewhere(hint: Hint | str, repository: str) -> str:
    """Returns a hint for a reader whose terminal may be anywhere: its commands name the repository."""
    # Those that are left out take a repository as their argument.
    named = f"`vfs --repo {quote(repository)} "
    return re.sub(r"`vfs (?!-|init|mount|umount)", lambda _: named, hint_text(hint))


def notice_text(text: str, hint: Hint | str) -> str:
    """Returns what happened, and what to do about it where a hint says so."""
    words = hint_text(hint)
    return f"{text}. {words}" if words else text
