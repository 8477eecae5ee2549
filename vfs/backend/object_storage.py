"""ObjectStorageBackend: objects in S3, Google Cloud Storage, Azure Blob Storage or below a static HTTP address.

The only importer of `obstore`, whose client repeats nothing here: RetryBackend does, and it knows which requests may be
repeated. A token is the whole result of a put (ETag and version), since services differ in what their conditions read.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from weakref import WeakValueDictionary

from vfs.backend.protocol import Buffer, KeyExists, MissingKey, OnDisk, Token, TokenMismatch, Versioned, check_key
from vfs.errors import Corrupt, InvalidInput, NotPermitted, ReadOnly, Unsupported

OBJECT_BYTES_MAX = 64 * 1024 * 1024
"""The largest object that is read whole; a larger one is refused before memory is taken."""

_ASKING_S, _SENDING_S = 30, 900
"""How long a request without and with a large body may take. 64 MiB in 15 minutes are 600 kbit/s."""
_CONNECT_S = 5
_SILENCE_S = 10
"""How long nothing may come of an answer: a reader of a network that swallows everything waits so long."""
_LARGE_BYTES = 1024 * 1024
_STATUS = re.compile(r"status code: (\d{3})")
_OF_METADATA_SERVICE = ("169.254.", "/latest/api/token", "/latest/meta-data", "metadata.google.internal")
"""In the address of the service that gives a machine's role, which is asked where nothing else has credentials."""
_HINT_ACCESS = (
    "Credentials come from where the cloud's own tools find them: the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, …) "
    "or the machine's role."
)

P = ParamSpec("P")
R = TypeVar("R")


def _translated(
    method: Callable[Concatenate[ObjectStorageBackend, str, P], R],
) -> Callable[Concatenate[ObjectStorageBackend, str, P], R]:
    """Gives a method on a key the errors of the protocol."""

    @wraps(method)
    def call(self: ObjectStorageBackend, key: str, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, check_key(key), *args, **kwargs)
        except FileNotFoundError:
            raise MissingKey(key) from None
        except self.failure as error:
            raise self.translate(error, key) from None

    return call


def load_client() -> tuple[Any, Any]:
    """Imports the client library, and returns it and its errors; raises Unsupported without it. Starts no thread."""
    try:
        # Imported here: it is an extra, and takes some time.
        import obstore
        import obstore.store
        from obstore import exceptions
    except ImportError as error:
        raise Unsupported(
            "remotes in object storage need the package obstore",
            hint="Install it: pip install 'vfs-versions[remote]'.",
        ) from error
    return obstore, exceptions


class _Client:
    """A client of the library, with its connections; all backends of a place in a process have the same one."""

    def __init__(
        self, scheme: str, base: str, prefix: str, options: dict[str, str], seconds: int, silence: int
    ) -> None:
        obstore, _ = load_client()
        classes = obstore.store
        chosen: Any = {
            "s3": classes.S3Store, "gs": classes.GCSStore, "az": classes.AzureStore, "https": classes.HTTPStore,
        }[scheme]  # fmt: skip
        client = {
            "read_timeout": f"{silence}s",
            "timeout": f"{seconds}s",
            "connect_timeout": f"{_CONNECT_S}s",
            "allow_http": options.get("endpoint", base).startswith("http://"),
        }
        retries = {"max_retries": 0, "retry_timeout": timedelta(seconds=_SENDING_S)}
        found: dict[str, Any] = dict(options) if scheme == "https" else {"prefix": prefix or None, **options}
        self.store = chosen(base, client_options=client, retry_config=retries, **found)


def open_store(scheme: str, bucket: str, options: dict[str, str]) -> Any:
    """Returns the library's store of a bucket, for callers that read objects of others. Raises Unsupported."""
    return _Client(scheme, bucket, "", options, _SENDING_S, _SILENCE_S).store


_clients: WeakValueDictionary[tuple[object, ...], _Client] = WeakValueDictionary()
"""Those in use, by process, place and time-outs."""


class ObjectStorageBackend:
    """An ObjectBackend over a service of named objects.

    `location` is for messages. Conditional writes are as good as the service's: adding a remote tests them.
    """

    is_local = False

    def __init__(self, scheme: str, location: str, base: str, prefix: str, options: dict[str, str]) -> None:
        """`base`: the bucket, container or host; `options`: those of obstore's store. Use `open_location`.

        Raises Unsupported without obstore, InvalidInput for options that it refuses.
        """
        self.location = location
        self._obstore, self._errors = load_client()
        self.failure: type[Exception] = self._errors.BaseError
        self._is_static = scheme == "https"
        self._place = scheme, base, prefix, options
        self._reading = self._client(_SENDING_S, _SILENCE_S)

    def _client(self, seconds: int, silence: int) -> _Client:
        scheme, base, prefix, options = self._place
        key = (os.getpid(), scheme, base, prefix, *sorted(options.items()), seconds, silence)
        client = _clients.get(key)
        try:
            if client is None:
                client = _clients[key] = _Client(scheme, base, prefix, options, seconds, silence)
        except (self.failure, TypeError, ValueError) as error:
            raise InvalidInput(f"{self.location}: {_first_line(error)}", hint=_HINT_ACCESS) from None
        return client

    # Each takes some milliseconds to make, and a reader needs one alone.

    @cached_property
    def _asking(self) -> _Client:
        return self._client(_ASKING_S, _ASKING_S)

    @cached_property
    def _sending(self) -> _Client:
        # While a body is sent nothing comes either.
        return self._client(_SENDING_S, _SENDING_S)

    def translate(self, error: Exception, key: str) -> Exception:
        """Returns a failure of the client as an error of the protocol."""
        errors, where = self._errors, f"{self.location}/{key}"
        text = _first_line(error)
        status = _STATUS.search(text)
        # Before anything else: its status is that of another server.
        if any(part in text for part in _OF_METADATA_SERVICE):
            return NotPermitted(f"{where}: no credentials were found ({text})", hint=_HINT_ACCESS)
        if isinstance(error, errors.NotFoundError):
            return MissingKey(key)
        if isinstance(error, (errors.PermissionDeniedError, errors.UnauthenticatedError)):
            return NotPermitted(f"{where}: access was refused ({text})", hint=_HINT_ACCESS)
        if isinstance(error, errors.NotSupportedError):
            return Unsupported(f"{where}: {text}")
        # 408, 425, 429 and all of 5xx pass; so do errors without a status: the connection failed or was cut.
        if status is None or status[1][0] == "5" or status[1] in ("408", "425", "429"):
            return ConnectionError(errno.ECONNABORTED, text, where)
        return OSError(errno.EIO, text, where)

    @_translated
    def read(self, key: str) -> bytes:
        """Returns the whole object; raises Corrupt for one that is too large to be one of this program."""
        return self._get(key).data

    @_translated
    def read_versioned(self, key: str) -> Versioned:
        """Returns the whole object with the token that names these contents."""
        return self._get(key)

    @_translated
    def read_if_changed(self, key: str, token: Token) -> Versioned | None:
        """Returns the whole object with its token, None if `token` names its contents: a service sends none of them."""
        e_tag = token[0] if token else ""
        try:
            return self._get(key, {"if_none_match": e_tag} if e_tag else None)
        except self._errors.NotModifiedError:
            return None

    def _get(self, key: str, options: Any = None) -> Versioned:
        found = self._obstore.get(self._reading.store, key, options=options)
        meta = found.meta
        if meta["size"] > OBJECT_BYTES_MAX:
            raise Corrupt(f"{self.location}/{key} has {meta['size']} bytes; no object has more than {OBJECT_BYTES_MAX}")
        data = bytes(found.bytes())
        if len(data) != meta["size"]:
            raise ConnectionError(errno.ECONNABORTED, "the body was cut short", f"{self.location}/{key}")
        return Versioned(data, _token(meta))

    @_translated
    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """Returns part of an object; fewer bytes only at its end."""
        return bytes(self._range(key, offset, size))

    @_translated
    def read_into(self, key: str, offset: int, buffer: memoryview) -> int:
        """Fills a buffer from part of an object; returns the number of bytes, fewer than asked only at its end."""
        found = memoryview(self._range(key, offset, len(buffer)))
        buffer[: len(found)] = found
        return len(found)

    def _range(self, key: str, offset: int, size: int) -> Buffer:
        # A reader waits for each of these requests: none may take longer than a read may.
        if size <= 0:
            self._obstore.head(self._reading.store, key)
            return b""
        try:
            found: Buffer = self._obstore.get_range(self._reading.store, key, start=offset, length=size)
        except self.failure as error:
            # A range that begins at the end or behind it: services answer 416, some clients refuse the answer.
            status = _STATUS.search(str(error))
            if isinstance(error, self._errors.NotFoundError) or (status is not None and status[1] != "416"):
                raise
            if self._obstore.head(self._reading.store, key)["size"] > offset:
                raise
            return b""
        if len(found) > size:
            raise OSError(errno.EIO, f"{len(found)} bytes came, {size} were asked for", f"{self.location}/{key}")
        if len(found) < size and self._obstore.head(self._reading.store, key)["size"] >= offset + size:
            raise ConnectionError(errno.ECONNABORTED, "the body was cut short", f"{self.location}/{key}")
        return found

    def read_kept(self, key: str, offset: int, size: int) -> Buffer | None:
        """Returns None: no copies are kept."""
        return None

    def on_disk(self, key: str, offset: int, size: int) -> OnDisk | None:
        """Returns None: a service is asked."""
        return None

    def hint_readahead(self, key: str, offset: int, size: int) -> None:
        """Does nothing: a service takes no hints."""
        check_key(key)

    def drop_copy(self, key: str, offset: int, size: int) -> bool:
        """Returns False: no copies are kept."""
        return False

    @_translated
    def size(self, key: str) -> int:
        """Returns an object's bytes."""
        return int(self._obstore.head(self._asking.store, key)["size"])

    @_translated
    def put(self, key: str, data: Buffer) -> None:
        """Stores an object with one request; replaces."""
        self._put(key, data)

    @_translated
    def put_if_absent(self, key: str, data: Buffer) -> Token:
        """Stores an object where the key has none, else raises KeyExists; asks before it sends the body."""
        try:
            self._obstore.head(self._asking.store, key)
        except FileNotFoundError:
            pass
        else:
            raise KeyExists(key)
        try:
            return self._put(key, data, mode="create")
        except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
            raise KeyExists(key) from None

    @_translated
    def compare_and_swap(self, key: str, data: Buffer, expected: Token) -> Token:
        """Replaces an object if `expected` still names its contents; returns the new token."""
        names = ("e_tag", "version")
        mode = {name: value for name, value in zip(names, expected, strict=False) if value}
        try:
            return self._put(key, data, mode=mode)
        except (self._errors.AlreadyExistsError, self._errors.PreconditionError):
            # Some services answer so where there is no object.
            self._obstore.head(self._asking.store, key)
            raise TokenMismatch(key) from None

    def _put(self, key: str, data: Buffer, mode: Any = None) -> Token:
        if self._is_static:
            raise ReadOnly(f"{self.location} can only be read", hint="Push to the place that it is served from.")
        client = self._asking if len(data) <= _LARGE_BYTES else self._sending
        # An empty memoryview has no address, which the client refuses.
        body = data if len(data) else b""
        return _token(self._obstore.put(client.store, key, body, mode=mode, use_multipart=False))

    def start(self) -> SpooledUpload:
        """Begins an object that is written in pieces."""
        return SpooledUpload(self)

    @_translated
    def delete(self, key: str) -> None:
        """Removes an object."""
        if self._is_static:
            raise ReadOnly(f"{self.location} can only be read")
        # Services say nothing where there is none.
        self._obstore.head(self._asking.store, key)
        self._obstore.delete(self._asking.store, key)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields (key, bytes) of all objects whose key begins with `prefix`, sorted by key."""
        if self._is_static:
            raise Unsupported(f"{self.location} cannot be listed")
        parent = prefix.rpartition("/")[0]
        if parent:
            check_key(parent)
        try:
            pages = self._obstore.list(self._asking.store, parent or None)
            # Services sort in different orders: of bytes, or of directories.
            found = sorted((str(meta["path"]), int(meta["size"])) for page in pages for meta in page)
        except self.failure as error:
            raise self.translate(error, prefix) from None
        yield from ((key, size) for key, size in found if key.startswith(prefix))

    def sync_name(self, key: str) -> None:
        """Does nothing: what a service shows is durable."""

    def clear_unfinished(self) -> int:
        """Returns 0: an object is sent with one request, which ends with its process."""
        return 0

    def close_removed(self) -> None:
        """Does nothing: no object is kept open."""

    def close(self) -> None:
        """Does nothing: connections end with their last user."""


class SpooledUpload:
    """An Upload that is kept in a temporary file and sent with one request when it is whole."""

    def __init__(self, backend: ObjectStorageBackend) -> None:
        self._backend = backend
        self._file = tempfile.TemporaryFile(prefix="vfs-")  # noqa: SIM115 - closed by commit and abort
        self._size = 0
        self._key = ""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, *pieces: Buffer) -> None:
        """Appends the pieces; after an OSError none of them counts as written."""
        self._require_open()
        self._file.seek(self._size)
        for piece in pieces:
            self._file.write(piece)
        self._size += sum(map(len, pieces))

    def read(self, offset: int, size: int) -> bytes:
        """Returns bytes that were written before; fewer only at the end."""
        self._require_open()
        self._file.flush()
        return os.pread(self._file.fileno(), max(0, min(size, self._size - offset)), offset)

    def commit(self, key: str) -> None:
        """Sends the object; a second time does nothing."""
        if self._file.closed and self._key == key:
            return
        self._require_open()
        self._file.flush()
        if self._size:
            with mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ) as data:
                self._backend.put(key, memoryview(data))
        else:
            self._backend.put(key, b"")
        self._key = key
        self._file.close()

    def abort(self) -> None:
        """Drops the object."""
        self._file.close()

    def _require_open(self) -> None:
        if self._file.closed:
            raise InvalidInput("the upload is over")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _token(meta: Any) -> Token:
    return Token((meta["e_tag"] or "", meta["version"] or ""))


def _first_line(error: Exception) -> str:
    """Returns what the client says, without the body of the answer and its own structures."""
    return str(error).partition("\n")[0][:400].rstrip(": ")
