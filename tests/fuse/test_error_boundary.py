"""The error boundary: whatever a handler raises, the kernel gets an errno and the mount lives."""

from __future__ import annotations

import errno
import inspect
import logging
from typing import Any, cast

import pyfuse3
import pytest
import trio
from pyfuse3 import FUSEError, RequestContext

from vfs.errors import Corrupt, NotPermitted, ReadOnly, VfsError
from vfs.fuse.request_handlers import VfsOperations

HANDLERS = sorted(
    name for name, member in vars(VfsOperations).items() if inspect.iscoroutinefunction(member) and name[0] != "_"
)
NOT_OURS = {"access", "poll"}
"""The kernel checks permissions itself, and regular files are always ready."""


class Failing:
    """Raises one error whatever it is asked."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def _operations(error: BaseException) -> VfsOperations:
    failing: Any = Failing(error)
    return VfsOperations(failing, failing, failing)


def _outcome(operations: VfsOperations, name: str, *args: object) -> int:
    """Returns the errno that a handler raises, 0 for none."""

    async def main() -> int:
        try:
            await getattr(operations, name)(*args)
        except FUSEError as error:
            return error.errno
        return 0

    return trio.run(main)


def _arguments(name: str) -> int:
    return len(inspect.signature(getattr(pyfuse3.Operations, name)).parameters) - 1


def test_every_handler_of_the_binding_has_one_here() -> None:
    theirs = {name for name, member in vars(pyfuse3.Operations).items() if inspect.iscoroutinefunction(member)}
    assert theirs - set(HANDLERS) == NOT_OURS


@pytest.mark.parametrize("name", sorted(set(HANDLERS) - {"flush", "forget", "release", "releasedir"}))
def test_anything_unexpected_in_a_handler_is_eio_with_a_traceback(name: str, caplog: pytest.LogCaptureFixture) -> None:
    # No handler knows what to do with an object without a meaning.
    number = _outcome(_operations(ZeroDivisionError()), name, *[{} for _ in range(_arguments(name))])
    assert number == 5
    assert [record for record in caplog.records if record.levelno == logging.ERROR and record.exc_info]


def test_forget_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert _outcome(_operations(ZeroDivisionError()), "forget", [(7, 1), (8, 1)]) == 0
    assert len(caplog.records) == 2


def test_closing_an_unknown_handle_is_ebadf() -> None:
    operations = _operations(ZeroDivisionError())
    assert [_outcome(operations, name, 7) for name in ("release", "releasedir")] == [9, 9]


def test_flush_is_not_wanted_again() -> None:
    assert _outcome(_operations(ZeroDivisionError()), "flush", 1) == 38


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (ReadOnly("no"), 30),
        (Corrupt("bits"), 5),
        (OSError(28, "full"), 28),
        (OSError("words"), 5),
        (MemoryError(), 12),
        (FUSEError(61), 61),
    ],
)
def test_errors_on_purpose_are_their_errno(error: Exception, number: int) -> None:
    context = cast("RequestContext", None)
    assert _outcome(_operations(error), "lookup", 7, b"name", context) == number


def test_every_error_class_has_an_errno_of_its_own_or_eio() -> None:
    kinds = [VfsError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        assert 0 < kind.errno < 4096


def test_an_error_that_says_what_to_do_is_logged_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """A program is told EPERM and no more, so the reason must be found in the daemon's log."""
    error = NotPermitted("@x: names that start with @ belong to versions", hint="Choose another name.")
    with caplog.at_level(logging.INFO, "vfs.fuse.request_errors"):
        context = cast("RequestContext", None)
        assert _outcome(_operations(error), "lookup", 7, b"name", context) == errno.EPERM
    assert "belong to versions. Choose another name." in caplog.text
