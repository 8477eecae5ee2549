"""How many files a process may have open."""

from __future__ import annotations

import resource


def allow_many_files() -> None:
    """Raises this process's limit of open files to the hard limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
