"""Hints as sentences for a program's author: which call comes next, or which command where there is no call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, TypeVar

from vfs.errors import Advice, Hint, VfsError

_WORDS = {
    Advice.ADD_DATA: "Write something first: `layer.write(path, data)`.",
    Advice.CLOSE_VERSIONS: "Did you mean {names}? Versions go from v1 to v{count}; `repo.log()` yields them.",
    Advice.COMMIT_MAKES_ONE: "`layer.commit(message)` makes one.",
    Advice.FORGOTTEN_FOR_GOOD: "What was in it is gone; `repo.log()` yields the versions that are left.",
    Advice.KNOWN_VERSIONS: "Versions go from v1 to v{count}; `repo.log()` yields them.",
    Advice.LIST_BRANCHES: "`repo.branches()` returns the branches.",
    Advice.LIST_FILES: "`version.ls()` lists what a version has.",
    Advice.LIST_TAGS: "`repo.tags()` returns the tags.",
    Advice.LIST_VERSIONS: "`repo.log()` yields them.",
    Advice.LOG_OF_PATH: "`repo.history(path)` yields the versions that changed it.",
    Advice.MAKE_FIRST_VERSION: "Nothing is committed yet: make the first version with `layer.commit(message)`.",
    Advice.MAKE_REPOSITORY: "Make one with `vfs.init({path!r})`.",
    Advice.SEE_LOG: "Another process changed it meanwhile; look at `repo.log()` and try again.",
    Advice.SEE_NEWEST_VERSION: "Look at `repo.head`, then try again.",
    Advice.VERSIONS_LEFT: "`repo.log()` yields the versions that are left.",
    Advice.VERSION_TIMES: "`version.time` says when a version was made.",
}

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

_GENERATOR = 0x20
"""The flag of a function's code that is a generator's."""


def hint_text(hint: Hint | str) -> str:
    """Returns a hint as a sentence, or nothing where there is none."""
    if not isinstance(hint, Hint):
        return hint
    words = _WORDS.get(hint.advice)
    if words is not None:
        return words.format_map(hint.args)
    from vfs.api.hints import hint_text as for_a_terminal

    return f"In a terminal: {for_a_terminal(hint)}"


def worded(function: F) -> F:
    """Decorates what programs call: the hint of an error that it raises is a sentence, shown below the traceback."""
    if function.__code__.co_flags & _GENERATOR:

        @wraps(function)
        def yielding(*args: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from function(*args, **named)
            except VfsError as error:
                _word(error)
                raise

        return yielding  # type: ignore[return-value]

    @wraps(function)
    def returning(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except VfsError as error:
            _word(error)
            raise

    return returning  # type: ignore[return-value]


def worded_methods(decorated: C) -> C:
    """Decorates a class: its public functions and properties, and how it is made."""
    for name, value in list(vars(decorated).items()):
        if name.startswith("_") and name not in ("__init__", "__getitem__", "__iter__", "__enter__"):
            continue
        if isinstance(value, property) and value.fget is not None:
            setattr(decorated, name, property(worded(value.fget)))
        elif hasattr(value, "__code__"):
            setattr(decorated, name, worded(value))
    return decorated


def _word(error: VfsError) -> None:
    if isinstance(error.hint, Hint):
        error.hint = hint_text(error.hint)
        error.add_note(error.hint)
