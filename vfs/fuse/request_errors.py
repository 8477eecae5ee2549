"""Errors of requests, as the kernel takes them: errors of this project become their errno, any other one EIO."""

from __future__ import annotations

import errno
import logging

from vfs.errors import Corrupt, VfsError

log = logging.getLogger(__name__)


def errno_of(error: Exception, request: str) -> int:
    """Returns the errno that the kernel gets for an error of a request, and logs what an errno cannot say."""
    if isinstance(error, Corrupt):
        log.error("%s: %s", request, error)
        return error.errno
    if isinstance(error, VfsError):
        if error.hint:
            # The kernel passes on an error number only; the log has the hint.
            log.info("%s: %s. %s", request, error, error.hint)
        return error.errno
    if isinstance(error, OSError) and error.errno:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE):
            log.error("%s: %s", request, error)
        return error.errno
    if isinstance(error, MemoryError):
        # No traceback: that takes memory too.
        log.error("%s: no memory is left", request)
        return errno.ENOMEM
    log.error("%s: unexpected error", request, exc_info=error)
    return errno.EIO
