"""What an operation may say: names become paths and keys of tables, numbers become fields; only plain ones pass.

Checked where a line of the log is read and before one is written; a line that fails is damage, and does nothing.
"""

from __future__ import annotations

from vfs.model.decoding import COUNT_MAX
from vfs.model.ids import ID_BYTES
from vfs.model.names import BRANCH_NAME_BYTES_MAX, is_run_name, ref_name_fault
from vfs.store.refs.operation import BRANCHES, CURRENT, REMOTE_REFS, RUNS, TAGS, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import fits

SETTING_BYTES_MAX = 400
"""Longest name and longest value of a setting."""

_TIME_END = 2**63


def operation_fault(operation: Operation) -> str:
    """Returns why an operation cannot be; empty for one that can."""
    if not 0 <= operation.seq <= COUNT_MAX or not -_TIME_END <= operation.time_ns < _TIME_END:
        return "its number or time is out of range"
    for change in operation.refs:
        fault = ref_fault(change)
        if fault:
            return f"{change.name[:80]!r}: {fault}"
    for setting in operation.settings:
        fault = setting_fault(setting)
        if fault:
            return f"the setting {setting.name[:80]!r}: {fault}"
    if not all(is_id(note.commit) for note in operation.notes):
        return "a note names no commit"
    if operation.work is not None:
        branch, generation = operation.work
        if ref_name_fault(branch, BRANCH_NAME_BYTES_MAX) or not 0 <= generation <= COUNT_MAX:
            return "it names no working layer"
    if not fits(operation.kind, operation.args):
        return "its arguments are those of another kind"
    if not all(map(is_id, operation.args.kept_commits())):
        return "an argument names no commit"
    layer = operation.layer
    if layer is not None and layer.before and ref_name_fault(layer.branch, BRANCH_NAME_BYTES_MAX):
        return "an argument names no branch"
    return ""


def setting_fault(change: SettingChange) -> str:
    """Returns why a change of a setting cannot be; empty for one that can."""
    if not change.name or not change.name.isprintable() or (change.new and not change.new.isprintable()):
        return "this is no text that a setting can have"
    if max(len(change.name.encode("utf-8", "replace")), len(change.new.encode("utf-8", "replace"))) > SETTING_BYTES_MAX:
        return "it is too long"
    if change.name == CURRENT and change.new:
        return ref_name_fault(change.new, BRANCH_NAME_BYTES_MAX)
    return ""


def ref_fault(change: RefChange) -> str:
    """Returns why a change of a ref cannot be; empty for one that can."""
    kind, slash, name = change.name.partition("/")
    prefix = f"{kind}{slash}"
    if prefix == RUNS:
        fault = "" if is_run_name(name) else "this is no name of a run"
    elif prefix == REMOTE_REFS:
        remote, slash, branch = name.partition("/")
        fault = ref_name_fault(remote) or ref_name_fault(branch, BRANCH_NAME_BYTES_MAX)
    elif prefix in (BRANCHES, TAGS):
        fault = ref_name_fault(name, BRANCH_NAME_BYTES_MAX) if prefix == BRANCHES else ref_name_fault(name)
    else:
        fault = "a ref's name begins with `branches/`, `tags/`, `runs/` or `remotes/`"
    if fault:
        return fault
    if any(text and not is_id(text) for text in (change.old, change.new)):
        return "it does not name a commit"
    return ""


def is_id(text: str) -> bool:
    """True if a text is an id, in the hex digits that the log has."""
    return len(text) == 2 * ID_BYTES and set(text) <= set("0123456789abcdef")
