"""The objects of buckets as files, by whatever names they have: what an import from `s3://…` reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vfs.backend.object_storage import load_client, open_store

SCHEMES = ("s3", "gs", "az")
_PIECE_BYTES = 8 << 20


class BucketFiles:
    """Names are `BUCKET/KEY`; the methods are those of a filesystem of fsspec.

    Credentials come from the environment. Errors are the library's.
    """

    def __init__(self, scheme: str, endpoint: str = "") -> None:
        """`endpoint`: the service's address, of S3 alone. Raises Unsupported where the library is missing."""
        self.protocol = scheme
        self._endpoint = endpoint if scheme == "s3" else ""
        self._library, _ = load_client()
        self._stores: dict[str, Any] = {}

    def find(self, path: str, *, detail: bool = True) -> dict[str, dict[str, Any]]:
        """Returns the objects below a name, else the one of that name, with `size` and `last_modified`."""
        bucket, _, key = path.partition("/")
        store = self._store(bucket)
        found = [each for part in self._library.list(store, prefix=key or None) for each in part]
        if not found and key:
            found = [self._library.head(store, key)]
        return {f"{bucket}/{each['path']}": {"type": "file", **each} for each in found}

    @contextmanager
    def open(self, name: str, _mode: str = "rb") -> Iterator[_Object]:
        """Opens an object, to be read from its beginning to its end."""
        bucket, _, key = name.partition("/")
        yield _Object(self._library.get(self._store(bucket), key).stream(min_chunk_size=_PIECE_BYTES))

    def _store(self, bucket: str) -> Any:
        if bucket not in self._stores:
            # Services with an address of their own take any region, and signatures need one.
            options = {"endpoint": self._endpoint, "default_region": "us-east-1"} if self._endpoint else {}
            self._stores[bucket] = open_store(self.protocol, bucket, options)
        return self._stores[bucket]


class _Object:
    """The bytes of an object as they come."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = iter(pieces)

    def read(self, _size: int) -> bytes:
        """Returns the next bytes, any number of them; none at the end."""
        return bytes(next(self._pieces, b""))
