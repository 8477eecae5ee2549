"""Refs: names of commits (`branches/main`, `tags/NAME`), version numbers and past operations, out of the log.

The tables are derived: a look-up takes what they lack from the log, and all of them can be rebuilt.
Invariant: `move` appends to the log last of all that can fail; when it returns, the operation has happened.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from vfs.errors import Advice, Conflict, Corrupt, Hint, InvalidInput, TooLarge, is_unwritable
from vfs.model.decoding import COUNT_MAX
from vfs.model.ids import CommitId
from vfs.model.objects import Commit
from vfs.store.lmdb_tables import Tables
from vfs.store.memory_tables import MemoryTables
from vfs.store.refs.ancestry import ANCESTRY, AncestryRow, WritableTables, ancestor_at, extend, row_of
from vfs.store.refs.operation import BRANCHES, Note, Operation, RefChange, SettingChange
from vfs.store.refs.operation_args import ForgetLogArgs
from vfs.store.refs.operation_limits import is_id, operation_fault
from vfs.store.refs.operation_log import DamagedLog, LogDamage, OperationLog, decode_text, encode_text

PROTECTED = "protected/"
"""Before a ref's name: the setting that keeps it where it is, by not being empty."""

_REFS = "refs"
OPERATIONS = "operations"
_META = "refs-meta"
_FORGOTTEN = "forgotten"
REFS_TABLES = (_REFS, ANCESTRY, OPERATIONS, _META, _FORGOTTEN)
"""The tables that Refs needs."""

_NUMBER = struct.Struct(">Q")
_STATE = struct.Struct("<QQ")
_STATE_KEY = b"followed"
_WORK = b"work/"
_CONSUMER = b"consumer/"
_SETTING = b"setting/"
_NOTE = b"note/"
_ROWS_MAX = 8192
"""WritableTables of commits that are remembered: some 3 MB."""

FORGET = "forget"
"""The kind of an operation that forgets commits: `args["commits"]` are their ids in hex, one space between."""


PURGE = "purge"
"""The kind of an operation that puts other commits in the place of all that had some path; nothing undoes it."""


class RefMoved(Conflict):
    """A ref is not where the caller last saw it."""

    code = "ref-moved"

    def __init__(self, change: RefChange, current: str) -> None:
        super().__init__(
            f"{change.name} is at {current[:8] or 'nothing'}, not at {change.old[:8] or 'nothing'}",
            hint=Hint(Advice.SEE_LOG),
        )
        self.name = change.name


class Protected(Conflict):
    """A ref that is protected was to be moved or removed."""

    code = "protected"

    def __init__(self, name: str) -> None:
        kind, _, short = name.partition("/")
        what = "branch" if f"{kind}/" == BRANCHES else "tag"
        super().__init__(
            f"the {what} {short!r} is protected and stays where it is",
            hint=Hint(Advice.UNPROTECT, {"kind": what, "name": short}),
        )
        self.name = name


class SettingMoved(Conflict):
    """A setting is not what the caller last saw."""

    code = "ref-moved"

    def __init__(self, change: SettingChange, current: str) -> None:
        super().__init__(
            f"the setting {change.name!r} is {current or 'empty'}, not {change.old or 'empty'}",
            hint="Another process changed it meanwhile; try again.",
        )


class _State(NamedTuple):
    """How far the tables have followed the log: the offset after the last line, and the largest sequence number."""

    offset: int
    seq: int


class Refs:
    """The refs of one repository; reads from any thread, sees what any process moved at once.

    `get_commit` reads a commit from the object store. Callers hold the repository's write lock for `move`; if they do
    not, a compare-and-swap that lost still raises RefMoved.
    """

    def __init__(
        self, tables: Tables | MemoryTables, log: OperationLog, get_commit: Callable[[CommitId], Commit]
    ) -> None:
        self._kept = self._tables = tables
        self._spare: MemoryTables | None = None
        self._is_frozen = False
        self._log = log
        self._get_commit = get_commit
        self._seen_size = -1
        self._rows: dict[bytes, AncestryRow] = {}
        self.damage: list[LogDamage] = []

    def get(self, name: str) -> CommitId | None:
        """Returns the commit that a ref names, or None."""
        self._follow()
        value = self._tables.get(_REFS, name.encode("utf-8", "surrogateescape"))
        return None if value is None else CommitId(value)

    def list(self, prefix: str = "") -> Iterator[tuple[str, CommitId]]:
        """Yields (name, commit) of the refs whose name begins with `prefix`, sorted."""
        self._follow()
        for key, value in self._tables.scan(_REFS, prefix.encode()):
            yield key.decode(), CommitId(value)

    def setting(self, name: str) -> str:
        """Returns what a setting is; empty where there is none."""
        self._follow()
        return (self._tables.get(_META, _SETTING + name.encode("utf-8", "surrogateescape")) or b"").decode()

    def settings(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yields (name, value) of the settings whose name begins with `prefix`, sorted."""
        self._follow()
        for key, value in self._tables.scan(_META, _SETTING + prefix.encode()):
            yield key.removeprefix(_SETTING).decode(), value.decode()

    def note(self, commit_id: CommitId) -> Note | None:
        """Returns the later note on a commit, or None."""
        self._follow()
        value = self._tables.get(_META, _NOTE + commit_id)
        return None if value is None else msgspec.json.decode(value, type=Note)

    def notes(self) -> Iterator[tuple[CommitId, Note]]:
        """Yields the commits with a later note, and it."""
        self._follow()
        for key, value in self._tables.scan(_META, _NOTE):
            yield CommitId(key.removeprefix(_NOTE)), msgspec.json.decode(value, type=Note)

    def require_movable(self, name: str) -> None:
        """Raises Protected for a ref that `move` would refuse to move."""
        if self.setting(PROTECTED + name):
            raise Protected(name)

    def version(self, branch: str, number: int) -> CommitId | None:
        """Returns a branch's n-th version, counted from 1."""
        found = self._line(branch, lambda row: row.number > number)
        return found[0] if found is not None and found[1].number == number else None

    def version_count(self, branch: str) -> int:
        """Returns the number of a branch's newest version; 0 without any."""
        newest = self._line(branch, lambda _row: False)
        return newest[1].number if newest is not None else 0

    def version_at(self, branch: str, time_ns: int) -> CommitId | None:
        """Returns a branch's last version that is not younger than a moment."""
        # Commit times never go back along a branch.
        found = self._line(branch, lambda row: row.time_ns > time_ns)
        return found[0] if found is not None else None

    def number_on(self, branch: str, commit_id: CommitId) -> int | None:
        """Returns which version of a branch a commit is, or None for none."""
        self._follow()
        row = self._row(commit_id)
        return row.number if row is not None and self.version(branch, row.number) == commit_id else None

    def _line(self, branch: str, is_above: Callable[[AncestryRow], bool]) -> tuple[CommitId, AncestryRow] | None:
        head = self.get(BRANCHES + branch)
        return None if head is None else ancestor_at(self._row, head, is_above)

    def _row(self, commit_id: bytes) -> AncestryRow | None:
        row = self._rows.get(commit_id)
        if row is None:
            row = row_of(self._tables.get, commit_id)
            if row is not None and row.number:
                # It never changes; most searches share their first skip pointers.
                if len(self._rows) >= _ROWS_MAX:
                    self._rows.clear()
                self._rows[commit_id] = row
        return row

    def by_prefix(self, digits: str) -> Sequence[CommitId]:
        """Returns the commits that ever were a version or a ref and whose id begins with these hex digits, sorted."""
        self._follow()
        try:
            prefix = bytes.fromhex(digits[: len(digits) // 2 * 2])
        except ValueError:
            return []
        return [
            CommitId(key)
            for key, _ in self._tables.scan(ANCESTRY, prefix)
            if key.hex().startswith(digits.lower()) and not self._is_unread(key)
        ]

    def _is_unread(self, commit_id: bytes) -> bool:
        row = row_of(self._tables.get, commit_id)
        return row is None or not row.number

    def is_forgotten(self, commit_id: CommitId) -> bool:
        """True if only a commit's record is kept (and what other versions share)."""
        return self.forgotten_ns(commit_id) is not None

    def forgotten_ns(self, commit_id: CommitId) -> int | None:
        """Returns when a commit was forgotten (Unix time), or None."""
        self._follow()
        value = self._tables.get(_FORGOTTEN, commit_id)
        return None if value is None else int(_NUMBER.unpack(value)[0])

    def forgotten(self) -> Iterator[tuple[CommitId, int]]:
        """Yields the commits that were forgotten, and when (Unix time)."""
        self._follow()
        for key, value in self._tables.scan(_FORGOTTEN):
            yield CommitId(key), int(_NUMBER.unpack(value)[0])

    def operations(self) -> Iterator[Operation]:
        """Yields the operations of the past, newest first."""
        self._follow()
        for _, value in self._tables.scan(OPERATIONS, reverse=True):
            yield decode_text(value)

    def consumed_generation(self, branch: str) -> int:
        """Returns the last generation of the working layer's journal that a commit took up; 0 for none."""
        self._follow()
        value = self._tables.get(_META, _WORK + branch.encode())
        return 0 if value is None else int(_NUMBER.unpack(value)[0])

    def consumer(self, branch: str) -> Operation | None:
        """Returns the operation that took up a branch's last consumed generation, None where there is none."""
        work = branch, self.consumed_generation(branch)
        if not work[1]:
            return None
        at = self._tables.get(_META, _CONSUMER + branch.encode())
        if at is None:
            # The tables were made by a program that did not note it.
            return next((operation for operation in self.operations() if operation.work == work), None)
        value = self._tables.get(OPERATIONS, at)
        return None if value is None else decode_text(value)

    def move(self, operation: Operation) -> Operation:
        """Makes an operation happen and returns it with its sequence number; all of its refs move, or none.

        The commits it names are durable already (docs/durability.md, rule 6). Raises RefMoved or SettingMoved where an
        `old` is not what is there, Protected where a ref is and the operation does not end that, Corrupt where a `new`
        cannot be read, InvalidInput for a name that cannot be, OSError or MemoryError of the log; in all these cases
        nothing has happened. Appending to the log is the point of no return.
        """
        fault = operation_fault(operation)
        if fault:
            raise InvalidInput(fault)
        done: Operation | None = None
        try:
            with self._kept.write() as batch:
                state = self._catch_up(batch)
                for setting in operation.settings:
                    _check_setting(batch, setting)
                ended = {setting.name for setting in operation.settings if not setting.new}
                for change in operation.refs:
                    self._check(batch, change)
                    if PROTECTED + change.name not in ended and batch.get(_META, _setting_key(PROTECTED + change.name)):
                        raise Protected(change.name)
                numbered = msgspec.structs.replace(operation, seq=state.seq + 1)
                if numbered.seq > COUNT_MAX:
                    raise TooLarge("the operation log has no more numbers")
                self._apply(batch, numbered)
                offset, end = self._log.append(numbered)
                done = numbered
                _record(batch, offset, numbered)
                batch.put(_META, _STATE_KEY, _STATE.pack(end, numbered.seq))
        except (OSError, MemoryError, Corrupt):
            if done is None:
                raise
            # It has happened: the log says so. The tables could not be written (a full disk, say); the next look at
            # them takes the line from the log.
            return done
        self._tables = self._kept
        self._seen_size = end
        return done

    def follow(self) -> int:
        """Takes what the tables lack from the log; returns the offset up to which they follow it."""
        self._follow()
        value = self._tables.get(_META, _STATE_KEY)
        return _STATE.unpack(value)[0] if value is not None else 0

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Yields the rows of one of REFS_TABLES; raises DamagedTables."""
        return self._tables.scan(table)

    def has_row(self, table: str, key: bytes) -> bool:
        """Returns True if one of REFS_TABLES has a row; raises DamagedTables."""
        return self._tables.get(table, key) is not None

    def may_lack(self, table: str, key: bytes) -> bool:
        """True if a table may be without a row that the log makes: an older program did not make it."""
        return table == _META and key.startswith(_CONSUMER) and self._tables.get(table, key) is None

    def rebuild(self) -> None:
        """Makes the tables again from the log alone, in one transaction."""
        self.damage.clear()
        with self._kept.write() as batch:
            for table in REFS_TABLES:
                batch.clear(table)
            self._catch_up(batch)

    def freeze(self) -> None:
        """Follows the log no more: what it says later may be of objects that this process does not find."""
        self._follow()
        self._is_frozen = True

    def _follow(self) -> None:
        size = self._log.size()
        if size == self._seen_size or self._is_frozen:
            return
        try:
            self._bring_up(self._kept, size)
            self._tables = self._kept
        except OSError as error:
            if not is_unwritable(error):
                raise
            # Callers are answered all the same, from tables that end with this process.
            if self._spare is None:
                self._spare = MemoryTables()
                self.damage.clear()
            self._bring_up(self._spare, size)
            self._tables = self._spare
        # Kept even where a torn tail makes the log longer than what can be read of it.
        self._seen_size = size

    def _bring_up(self, tables: Tables | MemoryTables, size: int) -> None:
        value = tables.get(_META, _STATE_KEY)
        if (_STATE.unpack(value)[0] if value is not None else 0) != size:
            with tables.write() as batch:
                self._catch_up(batch)

    def _catch_up(self, batch: WritableTables) -> _State:
        value = batch.get(_META, _STATE_KEY)
        before = state = _State(*_STATE.unpack(value)) if value is not None else _State(0, 0)
        if state.offset > self._log.size():
            raise DamagedLog(
                "the operation log is shorter than it was: operations are missing",
                hint=Hint(Advice.RESTORE_LOG),
            )
        while True:
            page = self._log.read(state.offset)
            self.damage.extend(page.damage)
            for offset, operation in page.operations:
                objection = _out_of_turn(operation, state.seq)
                # The warning names the lines that a damaged log lacks.
                if objection and not page.damage:
                    self.damage.append(LogDamage(offset, objection))
                if operation.seq <= state.seq:
                    continue
                self._apply(batch, operation)
                _record(batch, offset, operation)
                state = state._replace(seq=max(state.seq, operation.seq))
            if page.next_offset == state.offset:
                break
            state = state._replace(offset=page.next_offset)
        if state != before:
            batch.put(_META, _STATE_KEY, _STATE.pack(*state))
        return state

    def _check(self, batch: WritableTables, change: RefChange) -> None:
        current = (batch.get(_REFS, change.name.encode()) or b"").hex()
        if current != change.old:
            raise RefMoved(change, current)
        if change.new:
            new = CommitId(bytes.fromhex(change.new))
            self._get_commit(new)
            if batch.get(_FORGOTTEN, new) is not None:
                raise Conflict(f"{change.new[:8]} was forgotten", hint=Hint(Advice.VERSIONS_LEFT))

    def _apply(self, batch: WritableTables, operation: Operation) -> None:
        """Follows one operation."""
        for change in operation.refs:
            name, new = change.name.encode(), CommitId(bytes.fromhex(change.new))
            if new:
                batch.put(_REFS, name, new)
                extend(batch, new, bytes.fromhex(change.old), self._get_commit)
            else:
                batch.delete(_REFS, name)
                if change.name.startswith(BRANCHES):
                    branch = change.name.removeprefix(BRANCHES)
                    # Its working layer goes with it; another branch of this name begins with another one.
                    batch.delete(_META, _WORK + branch.encode())
                    batch.delete(_META, _CONSUMER + branch.encode())
        for setting in operation.settings:
            if setting.new:
                batch.put(_META, _setting_key(setting.name), setting.new.encode())
            else:
                batch.delete(_META, _setting_key(setting.name))
        if operation.kind == FORGET:
            forgotten = operation.args.commits if isinstance(operation.args, ForgetLogArgs) else ()
            for text in filter(is_id, forgotten):
                batch.put(_FORGOTTEN, bytes.fromhex(text), _NUMBER.pack(operation.time_ns))
        for note in operation.notes:
            if note.new is not None:
                batch.put(_META, _NOTE + bytes.fromhex(note.commit), msgspec.json.encode(note.new))
            else:
                batch.delete(_META, _NOTE + bytes.fromhex(note.commit))
        if operation.work is not None:
            branch, generation = operation.work
            key = _WORK + branch.encode()
            before = batch.get(_META, key)
            if before is None or _NUMBER.unpack(before)[0] < generation:
                batch.put(_META, key, _NUMBER.pack(generation))


def _out_of_turn(operation: Operation, last: int) -> str:
    """Says why an operation cannot be the one that follows the operation numbered `last`."""
    if operation.seq <= last:
        return f"operation {operation.seq} stands there again"
    missing = operation.seq - last - 1
    return (
        f"the line of operation {last + 1} is missing" + (f", and {missing - 1} more" if missing > 1 else "")
        if missing
        else ""
    )


def _record(batch: WritableTables, offset: int, operation: Operation) -> None:
    """Keeps an operation that `_apply` has followed."""
    batch.put(OPERATIONS, _NUMBER.pack(offset), encode_text(operation))
    if operation.work is not None:
        branch, generation = operation.work
        if batch.get(_META, _WORK + branch.encode()) == _NUMBER.pack(generation):
            batch.put(_META, _CONSUMER + branch.encode(), _NUMBER.pack(offset))


def _setting_key(name: str) -> bytes:
    return _SETTING + name.encode()


def _check_setting(batch: WritableTables, change: SettingChange) -> None:
    current = (batch.get(_META, _setting_key(change.name)) or b"").decode()
    if current != change.old:
        raise SettingMoved(change, current)
