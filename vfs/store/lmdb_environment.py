"""An LMDB environment that a fork leaves usable: closed before it, opened again on both sides when it is next used.

LMDB knows its readers and writers by process. A child that used or closed what its parent has open would free the
parent's readers, and pages would be overwritten under them; and it may not open the same file beside that.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

import lmdb

from vfs.backend.durable import is_synced
from vfs.errors import REBUILD_HINT, Busy, Corrupt, InvalidInput

_MAP_BYTES_MIN = 1 << 28
_READERS_MAX = 1022
_SPARE_TRANSACTIONS = 16
_FORK_WAIT_S = 0.0005


class DamagedTables(Corrupt):
    """The tables' file is damaged; what it holds can be made again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint=REBUILD_HINT)


class Environment:
    """An open environment and its named databases. Raises what `translated` does.

    `users` has an item for each transaction of this process, of which there must be none during a fork.
    """

    def __init__(self, directory: Path, names: Sequence[str], map_bytes: int, *, is_durable: bool = True) -> None:
        self._directory = directory
        self._is_durable = is_durable
        self._names = names
        self._map_bytes = map_bytes
        self.users: list[None] = []
        self.is_lost_in_a_fork = False
        """True where the files are gone, so that they cannot be opened again."""
        self._gate = threading.Lock()
        self._writer = 0
        self._is_closed = False
        self._env: lmdb.Environment | None = None
        self._open()
        self.page_bytes = int(self.opened().stat()["psize"])
        _environments.add(self)

    def _open(self) -> lmdb.Environment:
        with translated():
            env = _open(self._directory, len(self._names), self._map_bytes, is_durable=self._is_durable)
        try:
            with translated():
                env.reader_check()
                self.tables = {name: env.open_db(name.encode()) for name in self._names}
        except BaseException:
            env.close()
            raise
        self._env = env
        return env

    def opened(self) -> lmdb.Environment:
        """Returns LMDB's environment, opened again after a fork; to be called by a user."""
        env = self._env
        if env is not None:
            return env
        # A thread that is about to fork holds the gate and waits until there are no users.
        self.users.pop()
        try:
            with self._gate:
                if self._is_closed:
                    raise lmdb.Error("the environment is closed")
                return self._env if self._env is not None else self._open()
        finally:
            self.users.append(None)

    def begin(self, table: str | None = None, *, write: bool = False) -> lmdb.Transaction[bytes]:
        """Begins a transaction, of a table where one is named; to be called by a user."""
        env = self._env
        if env is None:
            env = self.opened()
        return env.begin(None if table is None else self.tables[table], write=write)

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keeps the environment from being closed for a fork."""
        self.users.append(None)
        try:
            with translated():
                yield
        finally:
            self.users.pop()

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Begins a write transaction, which the caller ends; waits for any other writer."""
        self.users.append(None)
        try:
            with translated():
                transaction = self.begin(write=True)
            self._writer = threading.get_ident()
            yield transaction
        finally:
            self._writer = 0
            self.users.pop()

    def close(self) -> None:
        """Closes the environment; further use raises."""
        self._is_closed = True
        if self._env is not None:
            self._env.close()

    def leave(self) -> bool:
        """Closes the environment for a fork by this thread; returns False where that cannot be."""
        if self._is_closed or self.is_lost_in_a_fork or self._writer == threading.get_ident():
            return False
        self._gate.acquire()
        env, self._env = self._env, None
        while self.users:
            time.sleep(_FORK_WAIT_S)
        if env is not None:
            env.close()
        return True

    def come_back(self, *, is_child: bool) -> None:
        """Lets the environment be opened again, after `leave`."""
        if is_child:
            # The other threads, which may have been about to use it, are not in this process.
            self._gate = threading.Lock()
            self.users.clear()
        else:
            self._gate.release()


_environments: WeakSet[Environment] = WeakSet()
_left: list[Environment] = []


def _before_fork() -> None:
    _left.extend(each for each in list(_environments) if each.leave())


def _after_in_parent() -> None:
    for each in _left:
        each.come_back(is_child=False)
    _left.clear()


def _after_in_child() -> None:
    for each in _left:
        each.come_back(is_child=True)
    _left.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def _open(directory: Path, tables: int, map_bytes: int, *, is_durable: bool) -> lmdb.Environment:
    """Opens with the largest map that the address space allows (containers and `ulimit -v` may refuse a terabyte)."""
    while True:
        try:
            return lmdb.open(
                # Bytes: a path that is no UTF-8 is one for the kernel, and lmdb would try to encode it.
                os.fsencode(directory),
                map_size=map_bytes,
                max_dbs=tables,
                max_readers=_READERS_MAX,
                max_spare_txns=_SPARE_TRANSACTIONS,
                readahead=False,
                mode=0o600,
                sync=is_durable and is_synced(),
                lib_version=0,
            )
        except (lmdb.MemoryError, MemoryError, lmdb.InvalidParameterError):
            map_bytes >>= 2
            if map_bytes < _MAP_BYTES_MIN:
                raise


@contextmanager
def translated() -> Iterator[None]:
    """Raises errors of LMDB as what they mean to a caller."""
    try:
        yield
    except lmdb.Error as error:
        raise translate(error) from error


def translate(error: lmdb.Error) -> Exception:
    """Says what LMDB's error means to a caller; what only damage or a mistake of ours can cause is damage."""
    if isinstance(error, (lmdb.DiskError, lmdb.MapFullError)):
        return OSError(errno.ENOSPC, f"the index cannot grow: {error}")
    if isinstance(error, lmdb.ReadersFullError):
        return Busy("too many readers of the index", hint="Stop some of the processes that use the repository.")
    if isinstance(error, lmdb.BadValsizeError):
        return InvalidInput(f"no key of a table: {error}")
    if "already open" in str(error):
        return Busy("the tables are open in this process already")
    if 0 < error.code < 200:
        return OSError(error.code, f"the index: {error}")
    return DamagedTables(f"the index is damaged: {error}")
