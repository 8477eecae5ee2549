"""Operations of the log as text for display."""

from __future__ import annotations

from vfs.cli.display.version_format import first_line, one_line
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.objects import MAIN, Version
from vfs.repo.notes import described
from vfs.repo.repository import Repository
from vfs.repo.undo import UNDO
from vfs.store.refs.operation import BRANCHES, CURRENT, LAST_RUN, RUN, RUNS, Operation, RefChange
from vfs.store.refs.operation_args import encode_args
from vfs.store.refs.refs import PROTECTED

_SHOWN_ARGS = ("what", "undoes", "name", "version", "paths")
"""Arguments that are shown."""


def operation_text(repo: Repository, operation: Operation) -> str:
    """Returns what an operation did, in one line: `commit main: v2 -> v3  "labels repaired"`."""
    parts = [operation.kind]
    for change in operation.refs:
        kind, _, name = change.name.partition("/")
        if f"{kind}/" == RUNS:
            # The commit of a record is no version that a command takes.
            parts.append(f"r{one_line(name)}" + _run_words(operation.kind, change))
            continue
        what = name if f"{kind}/" == BRANCHES else f"tag {name}"
        parts.append(f"{one_line(what)}: {_called(repo, change.old)} -> {_called(repo, change.new)}")
    parts += [
        f"{one_line(each.name)}: {each.old or '-'} -> {each.new or '-'}"
        for each in operation.settings
        if each.name != LAST_RUN
    ]
    args = encode_args(operation.args)
    parts += [f"{name} {_argument(repo, name, args[name])}" for name in _SHOWN_ARGS if args.get(name)]
    if operation.message:
        parts.append(f'"{first_line(operation.message)}"')
    return "  ".join(parts)


def _run_words(kind: str, change: RefChange) -> str:
    if kind != RUN and change.new:
        return " is back"
    if not change.new:
        return " removed"
    return " sealed" if change.old else " started"


def undone_text(operation: Operation) -> str:
    """Returns which operation was undone, in one line: `Undone: commit "labels repaired"`, `Done again: tag paper`."""
    is_redone = operation.kind == UNDO
    args = encode_args(operation.args)
    parts = [args.get("what", UNDO) if is_redone else operation.kind]
    if operation.message:
        parts.append(f'"{first_line(operation.message)}"')
    else:
        parts += [one_line(change.name.partition("/")[2]) for change in operation.refs]
        parts += [f"to {one_line(each.new or MAIN)}" for each in operation.settings if each.name == CURRENT]
        parts += [first_line(args[name]) for name in ("name", "paths") if args.get(name)]
    return f"{'Done again' if is_redone else 'Undone'}: {' '.join(parts)}"


def state_text(repo: Repository, operation: Operation) -> list[str]:
    """Returns the state after an operation was undone: one sentence for each name that it had changed."""
    lines = []
    for change in operation.refs:
        kind, _, name = change.name.partition("/")
        if f"{kind}/" == RUNS:
            lines.append(f"r{one_line(name)} is {'there again' if change.old else 'removed again'}")
            continue
        is_branch = f"{kind}/" == BRANCHES
        what = f"the {'branch' if is_branch else 'tag'} {one_line(name)}"
        if change.old:
            lines.append(f"{what} is at {_called(repo, change.old)}")
        elif is_branch and name == repo.current_branch:
            lines.append(f"{what} has no version yet")
        else:
            lines.append(f"there is no {what.removeprefix('the ')} any more")
    for each in operation.settings:
        if each.name == LAST_RUN:
            continue
        if each.name == CURRENT:
            newest = repo.head(repo.current_branch)
            where = f"at {repo.describe(newest.id, repo.current_branch)}" if newest is not None else "without a version"
            lines.append(f"the current branch is {one_line(repo.current_branch)}, {where}")
        elif each.name.startswith(PROTECTED):
            kind, _, name = each.name.removeprefix(PROTECTED).partition("/")
            what = f"the {'branch' if f'{kind}/' == BRANCHES else 'tag'} {one_line(name)}"
            lines.append(f"{what} is {'protected' if each.old else 'not protected'}")
        else:
            lines.append(f"{one_line(each.name)} is {one_line(each.old) or 'not set'}")
    for note in operation.notes:
        commit_id = CommitId(bytes.fromhex(note.commit))
        version = described(repo, Version(commit_id, repo.store.get_commit(commit_id)))
        lines.append(f'{_called(repo, note.commit)} says "{first_line(version.commit.message)}"')
    return lines


def _argument(repo: Repository, name: str, value: str) -> str:
    return _called(repo, value) if name == "version" and len(value) > SHORT_HEX * 2 else first_line(value)


def _called(repo: Repository, digits: str) -> str:
    """Returns the name of a commit of the log for display."""
    try:
        return repo.describe(CommitId(bytes.fromhex(digits))) if digits else "-"
    except ValueError:
        return first_line(digits)
