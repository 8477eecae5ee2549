"""The names of a repository's files and directories; docs/format.md says what is in each.

Names inside a directory belong to the package that keeps it: keys of packs and the log to `store`, journals to
`overlay`, unfinished uploads to `backend`.
"""

from __future__ import annotations

import os
from pathlib import Path

from vfs.backend.protocol import UNFINISHED
from vfs.backend.rooted_path import RootedPath
from vfs.model.names import INODES

CONFIG = "vfs.json"
"""The file that makes a directory a repository."""
HOOK = "hooks/pre-commit"
INDEX = "index"
WRITE_LOCK = "write.lock"
OBJECTS_LOCK = "objects.lock"
GC_LOCK = "gc.lock"
INDEX_LOCK = "index.lock"
LEFT_BY_INIT = frozenset({UNFINISHED.rstrip("/")})
"""The files that an interrupted `init` may leave."""

_RUN = "run"
_WORK = "work"
_STAT_CACHE = "cache"
_BISECTIONS = "bisect"
_RUN_TABLES = "runs"
_BISECTION_ENDING = ".runs"
_SOCKET_ENDING = ".sock"
_LOG_ENDING = ".log"


def stat_cache(repository: Path) -> Path:
    """Returns the directory of what the last import saw of each file."""
    return repository / _STAT_CACHE


def run_tables(repository: Path) -> Path:
    """Returns the directory of the tables over the records of runs."""
    return repository / _RUN_TABLES


def bisection(repository: Path, key: str) -> RootedPath:
    """Returns the file of the runs of a bisection that is not finished."""
    return RootedPath(repository, _BISECTIONS, key + _BISECTION_ENDING)


def working_layers(repository: Path) -> RootedPath:
    """Returns the directory that holds the working layers."""
    return RootedPath(repository, _WORK)


def working_layer(repository: Path, branch: str) -> RootedPath:
    """Returns the directory of a branch's working layer."""
    return RootedPath(repository, _WORK, branch)


def inode_numbers(repository: Path) -> RootedPath:
    """Returns the file of the inode numbers that collisions have moved."""
    return RootedPath(repository, _WORK, INODES)


def run_directory(repository: Path) -> Path:
    """Returns the directory of the daemons' sockets and logs."""
    return repository / _RUN


def control_socket(repository: Path, branch: str) -> RootedPath:
    """Returns where the daemon of a branch's writable mount listens."""
    return RootedPath(repository, _RUN, branch + _SOCKET_ENDING)


def control_sockets(repository: Path) -> list[RootedPath]:
    """Returns the sockets that there are, by name; none where their directory cannot be read."""
    try:
        names = sorted(name for name in os.listdir(run_directory(repository)) if name.endswith(_SOCKET_ENDING))
    except OSError:
        return []
    return [RootedPath(repository, _RUN, name) for name in names]


def daemon_log(repository: Path, branch: str) -> RootedPath:
    """Returns the log of the daemon that mounts a branch."""
    return RootedPath(repository, _RUN, branch + _LOG_ENDING)
