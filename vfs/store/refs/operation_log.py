"""OperationLog: what happened to the repository, one checksummed line of JSON after the other.

The log is the durable copy of all refs; appending a line is what makes an operation happen. Nothing in it is ever
changed, except that a line which a crash tore off is cut before the next one. Layout: docs/format.md, "Operation log".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from vfs.backend.protocol import LocalFiles, MissingKey
from vfs.errors import Corrupt, InvalidInput, TooLarge
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import chunk_id
from vfs.store.refs.operation import Operation, OperationFields
from vfs.store.refs.operation_args import decode_args, encode_args
from vfs.store.refs.operation_limits import operation_fault

LOG_KEY = "log"
LINE_BYTES_MAX = 1024 * 1024
"""The longest line; a message of this length is a mistake."""
_PAGE_BYTES = 4 * LINE_BYTES_MAX
_CHECK_DIGITS = 16
_END = b"\n"


class LogDamage(NamedTuple):
    """A damaged line, and why."""

    offset: int
    reason: str


class LogPage(NamedTuple):
    """A run of lines: the operations with their offsets, where to read on, and what was damaged among them."""

    operations: list[tuple[int, Operation]]
    next_offset: int
    damage: list[LogDamage]


class DamagedLog(Corrupt):
    """The log lost what it had."""


class _Line(OperationFields, frozen=True, omit_defaults=True):
    """An operation as its line has it: the arguments are texts."""

    args: dict[str, str] = {}


_FIELDS = OperationFields.__struct_fields__
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Line)


class OperationLog:
    """The log of one repository. Reads from any thread; appends under the repository's write lock, or inside Refs."""

    def __init__(self, files: LocalFiles) -> None:
        self._files = files

    def size(self) -> int:
        """Returns the log's bytes; 0 where there is none yet."""
        try:
            return self._files.size(LOG_KEY)
        except MissingKey:
            return 0

    def append(self, operation: Operation) -> tuple[int, int]:
        """Adds a line, durable on return, and returns (its offset, the offset after it).

        After an OSError (a full disk) or MemoryError the log is as before (docs/durability.md, rule 7). Raises
        TooLarge, or InvalidInput for text that is no UTF-8.
        """
        line = encode_line(operation)
        size, fence = self._cut_torn_tail()
        self._files.append(LOG_KEY, fence + line)
        return size + len(fence), size + len(fence) + len(line)

    def read(self, offset: int = 0) -> LogPage:
        """Returns the lines from an offset on, up to a few MB; the end is reached when nothing came.

        A torn tail is not read and not damage: `next_offset` stays before it.
        """
        page = LogPage([], offset, [])
        try:
            data = self._files.read_range(LOG_KEY, offset, _PAGE_BYTES)
        except MissingKey:
            return page
        at = 0
        while (end := data.find(_END, at)) >= 0:
            _take(page, offset + at, data[at:end])
            at = end + 1
        rest = data[at:]
        if len(data) < _PAGE_BYTES:
            if _is_whole(rest) or _is_whole(rest[:-1]):
                # Its line end was lost, not its content.
                _take(page, offset + at, rest if _is_whole(rest) else rest[:-1])
                at = len(data)
        elif len(rest) > LINE_BYTES_MAX:
            at = self._skip_line(page, offset, at)
        return page._replace(next_offset=offset + at)

    def _skip_line(self, page: LogPage, offset: int, at: int) -> int:
        """Passes over a line that is too long to be one, without holding it; stays before it if it never ends."""
        look = offset + at
        while data := self._files.read_range(LOG_KEY, look, _PAGE_BYTES):
            end = data.find(_END)
            if end >= 0:
                page.damage.append(LogDamage(offset + at, "the line is too long"))
                return look + end + 1 - offset
            look += len(data)
        return at

    def _cut_torn_tail(self) -> tuple[int, bytes]:
        """Removes an unfinished line; returns the size and what must stand before the next line."""
        size = self.size()
        if size == 0 or self._files.read_range(LOG_KEY, size - 1, 1) == _END:
            return size, b""
        start = max(0, size - LINE_BYTES_MAX)
        data = self._files.read_range(LOG_KEY, start, size - start)
        tail = data[data.rfind(_END) + 1 :]
        if _is_whole(tail) or len(tail) == LINE_BYTES_MAX:
            # Whole but for its end, or nothing that an append of ours can have left: it is kept for an inspection.
            return size, _END
        if _is_whole(tail[:-1]):
            self._files.truncate(LOG_KEY, size - 1)
            return size - 1, _END
        self._files.truncate(LOG_KEY, size - len(tail))
        return size - len(tail), b""


def encode_line(operation: Operation) -> bytes:
    """Returns an operation as the log holds it: the first hex digits of the text's BLAKE3, a space, the text."""
    try:
        text = encode_text(operation)
    except UnicodeEncodeError as error:
        raise InvalidInput(f"text for the operation log is not valid UTF-8: {error}") from error
    if len(text) > LINE_BYTES_MAX - _CHECK_DIGITS - 2:
        raise TooLarge("the message is too long", hint="Keep it below a megabyte; put long texts into a file.")
    return seal_line(text)


def seal_line(text: bytes) -> bytes:
    """Returns a text, which has no line ends, as a line with its check: also of other files than the log."""
    return _check(text) + b" " + text + _END


def text_of_line(line: bytes) -> bytes | None:
    """Returns the text of a line, given without its end; None where it does not match its check."""
    return line[_CHECK_DIGITS + 1 :] if _is_whole(line) else None


def decode_text(text: bytes) -> Operation:
    """Returns the operation of a line's text; raises DamagedLog."""
    try:
        line = _decoder.decode(text)
    except UNDECODABLE as error:
        raise DamagedLog(f"a line of the operation log cannot be decoded: {error}") from error
    try:
        operation = Operation(**_shared_fields(line), args=decode_args(line.kind, line.args))
    except ValueError as error:
        raise DamagedLog(f"operation {line.seq} cannot be: {error}") from error
    fault = operation_fault(operation)
    if fault:
        raise DamagedLog(f"operation {operation.seq} cannot be: {fault}")
    return operation


def encode_text(operation: Operation) -> bytes:
    """Returns an operation's text."""
    return _encoder.encode(_Line(**_shared_fields(operation), args=encode_args(operation.args)))


def _shared_fields(fields: OperationFields) -> dict[str, Any]:
    return {name: getattr(fields, name) for name in _FIELDS}


def _check(text: bytes) -> bytes:
    return chunk_id(text).hex()[:_CHECK_DIGITS].encode()


def _is_whole(line: bytes) -> bool:
    text = line[_CHECK_DIGITS + 1 :]
    return len(text) > 0 and line[: _CHECK_DIGITS + 1] == _check(text) + b" "


def _take(page: LogPage, offset: int, line: bytes) -> None:
    text = text_of_line(line)
    if text is None:
        page.damage.append(LogDamage(offset, "the line does not match its checksum"))
        return
    try:
        page.operations.append((offset, decode_text(text)))
    except DamagedLog as error:
        page.damage.append(LogDamage(offset, error.message))
