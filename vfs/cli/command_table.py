"""The table of all commands: adding a line here, and a module in vfs/cli/commands, adds a command."""

from __future__ import annotations

from typing import NamedTuple


class CommandEntry(NamedTuple):
    """One line of `vfs --help`; the command's module is imported when it runs, and its libraries where it uses them."""

    name: str
    summary: str
    module: str


def _entry(name: str, summary: str) -> CommandEntry:
    # `import` is a word of the language and cannot name a module that others import.
    return CommandEntry(name, summary, "vfs.cli.commands." + ("import_" if name == "import" else name))


GROUPS: tuple[tuple[str, tuple[CommandEntry, ...]], ...] = (
    (
        "Start",
        (
            _entry("init", "Make a new repository."),
            _entry("mount", "Show a repository as a directory."),
            _entry("umount", "End a mount."),
            _entry("import", "Commit a directory as the next version, without a mount."),
            _entry("export", "Write a version as plain files."),
        ),
    ),
    (
        "Work",
        (
            _entry("status", "Show uncommitted changes."),
            _entry("commit", "Commit the working layer as the next version."),
            _entry("restore", "Restore a version, or some paths of it, in the working layer."),
            _entry("amend", "Change the newest version."),
            _entry("undo", "Undo the last operation."),
        ),
    ),
    (
        "Look",
        (
            _entry("log", "List the versions, newest first."),
            _entry("show", "Show one version, or one entry of it."),
            _entry("diff", "Compare two versions, or a version and the working layer."),
            _entry("blame", "Show which version added each line of a text, or each row of a table."),
            _entry("operations", "List what was done to the repository, newest first."),
            _entry("ls", "List a directory of a version."),
            _entry("cat", "Print files of a version."),
            _entry("du", "Show the size of a version's data, by directory."),
            _entry("ui", "Show the repository in the browser."),
        ),
    ),
    (
        "Names",
        (
            _entry("tag", "Name a version, or list the names."),
            _entry("branch", "Make a branch, or list them."),
            _entry("switch", "Make a branch the current one."),
            _entry("merge", "Merge another branch into this one, as one version."),
            _entry("describe", "Change a version's message and metadata."),
        ),
    ),
    (
        "Know",
        (
            _entry("run", "Run a program, and record what it reads and writes."),
            _entry("runs", "List the runs, newest first; show one, or compare two."),
            _entry("lineage", "Show what made a file, a version or a run."),
            _entry("bisect", "Find the version, files and rows that made a command fail."),
            _entry("crosscheck", "Say whether the data or the code changed a metric."),
            _entry("pin", "Print a file that names a version for ever, or check one."),
        ),
    ),
    (
        "Together",
        (
            _entry("clone", "Make a repository from a remote."),
            _entry("remote", "Add, list, show or remove remotes, through which a repository is shared."),
            _entry("warm", "Prefetch contents of a remote into the cache."),
            _entry("push", "Send versions to a remote."),
            _entry("fetch", "Fetch what a remote has, without changing a branch."),
            _entry("pull", "Fetch, then move the branch to where the remote's is."),
        ),
    ),
    (
        "Keep",
        (
            _entry("fsck", "Check a repository."),
            _entry("recover", "Recover the intact part of damaged uncommitted changes."),
            _entry("stats", "Show what a repository stores and what it saves."),
            _entry("gc", "Remove objects that are no longer referenced."),
            _entry("forget", "Remove versions for good."),
            _entry("purge", "Remove files or directories from every version, for good."),
        ),
    ),
    (
        "Here",
        (
            _entry("mounts", "List the mounts and their daemons."),
            _entry("doctor", "Check what this machine has for mounts, and say what to do."),
            _entry("completion", "Make the shell complete versions, names and paths."),
        ),
    ),
)
"""All commands in the order of the help."""

COMMANDS = {entry.name: entry for _, entries in GROUPS for entry in entries}
