"""`import`: a directory becomes the next version without going through a mount.

Nothing but new objects is written before the last step, `publish`, which is a commit's (vfs/repo/commit.py): an import
that is interrupted anywhere leaves the branch and the working layer unchanged; the next one reuses the stored objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from vfs.errors import InvalidInput, NotADirectory, NothingToDo, NotPermitted
from vfs.model.ids import CommitId
from vfs.model.names import show_path, split_path
from vfs.model.objects import Version
from vfs.overlay.overlay import Overlay
from vfs.repo.commit import Meta, is_same, publish, put_commit, require_clean
from vfs.repo.ignore_rules import Rules
from vfs.repo.ingest.directory_walk import Problem, Scan
from vfs.repo.ingest.import_pipeline import Ingest, Tally
from vfs.repo.ingest.stat_cache import StatCache
from vfs.repo.paths import stat_cache
from vfs.repo.repository import Repository
from vfs.repo.tree_placement import place, rules_above, target_of
from vfs.store.object_writer import ObjectWriter, Statistics
from vfs.store.progress_callbacks import FileProgress
from vfs.store.refs.operation import BRANCHES

Publish = Callable[[CommitId, CommitId | None], CommitId]
"""(commit, head that it was made on): makes the commit the branch's newest version, or raises and does nothing.

Returns the version's id (vfs/repo/commit.py, `publish`).
"""

_JOBS_MAX = 8
_SHOWN_PROBLEMS_MAX = 20


class Unreadable(NotPermitted):
    """Paths of the directory cannot be imported; nothing was committed. `problems` has them all."""

    code = "unreadable"
    exit_status = 3

    def __init__(self, problems: list[Problem]) -> None:
        shown = [f"{show_path(path) or '.'}: {reason}" for path, reason in problems[:_SHOWN_PROBLEMS_MAX]]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        super().__init__(
            "these paths cannot be imported:\n  " + "\n  ".join(shown),
            hint="Make them readable, or leave them out with --skip-unreadable; nothing was committed.",
        )
        self.problems = problems


class Imported(msgspec.Struct, frozen=True):
    """A durable version, and the problems of the import.

    `skipped` could not be read and is not in the version; `excluded` is the repository itself.
    """

    version: Version
    tally: Tally
    statistics: Statistics
    skipped: list[Problem]
    excluded: list[bytes]


def import_directory(
    repo: Repository,
    directory: Path,
    message: str,
    author: str,
    *,
    overlay: Overlay | None = None,
    publish_with: Publish | None = None,
    branch: str | None = None,
    jobs: int | None = None,
    into: bytes = b"",
    rules: Rules | None = None,
    skip_unreadable: bool = False,
    allow_empty: bool = False,
    meta: Meta = (),
    made_ns: int | None = None,
    progress: FileProgress | None = None,
) -> Imported:
    """Imports a directory, without what `rules` exclude, as the branch's next version; durable on return.

    With `into` the directory stands at that path of the version, and everything else is what the version before has.
    `made_ns`: when the version was made elsewhere (Unix time).

    Either `overlay` is the branch's working layer, opened by the caller, or `publish_with` asks the process that has
    `branch` (a mount's daemon) to do the last step, which is `publish`. What earlier imports read and is unchanged is
    not read again. Raises Conflict for uncommitted changes, Protected, Unreadable (unless `skip_unreadable`),
    NothingToDo where the branch has this tree already (unless `allow_empty`), Busy, OSError.
    """
    if overlay is not None:
        require_clean(overlay)
    elif publish_with is None:
        raise ValueError("an import needs the working layer, or a function that publishes the commit")
    _check_directory(repo, directory)
    branch = overlay.branch if overlay is not None else branch if branch is not None else repo.branch
    repo.refs.require_movable(BRANCHES + branch)
    # Objects found now must exist when the version refers to them; the write lock is taken for the last step alone.
    with repo.keeping_objects():
        parent = repo.head(branch)
        into = b"/".join(split_path(into))
        base = target_of(repo.store, parent, into)
        here = rules_above(repo.store, parent, into, rules if rules is not None else Rules())
        scan = Scan(directory, repo.path, repo.store, base, here, into)
        with ObjectWriter(repo.store) as writer, StatCache(stat_cache(repo.path)) as cache:
            ingest = Ingest(
                repo.store, writer, cache, repo.config.ingest, jobs=jobs or _default_jobs(), progress=progress
            )
            tree = ingest.run(scan)
            if ingest.problems and not skip_unreadable:
                raise Unreadable(ingest.problems)
            root, links = place(writer, parent.commit if parent is not None else None, into, tree)
            if parent is not None and not allow_empty and is_same(parent.commit, root, links):
                raise NothingToDo(f"{directory} is what {parent.name} holds already")
            version = put_commit(writer, parent, root, links, message, author, meta, made_ns=made_ns)
            writer.flush()
            statistics = writer.statistics
        expected = parent.id if parent is not None else None
        if overlay is not None:
            version = publish(repo, overlay, version.id, expected).version
        elif publish_with is not None:
            made = publish_with(version.id, expected)
            version = Version(made, repo.store.get_commit(made))
    return Imported(version, ingest.tally, statistics, ingest.problems, scan.excluded)


def _check_directory(repo: Repository, directory: Path) -> None:
    if not directory.is_dir():
        raise NotADirectory(f"{directory} is not a directory")
    here = directory.resolve()
    if here.is_relative_to(repo.path.resolve()):
        raise InvalidInput(f"{directory} is part of the repository", hint="Import the data, not the repository.")


def _default_jobs() -> int:
    return min(len(os.sched_getaffinity(0)), _JOBS_MAX)
