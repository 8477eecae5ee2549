"""Where a backend is, as a user writes it: `s3://bucket/prefix`, `file:///path`, `gs://`, `az://`, `https://`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import msgspec

from vfs.backend.local import LocalBackend
from vfs.backend.object_storage import ObjectStorageBackend
from vfs.backend.protocol import ObjectBackend
from vfs.errors import InvalidInput, NotFound

_EXAMPLES = (
    "Write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, file:///DIRECTORY or https://HOST/PATH."
)
_SCHEMES = ("s3", "gs", "az", "https", "http")


class Location(msgspec.Struct, frozen=True, omit_defaults=True):
    """An address, and what the service needs beside it. Never credentials.

    `endpoint`: the service's address where it is not the cloud's own. `region`: of the bucket, S3 only.
    """

    url: str
    endpoint: str = ""
    region: str = ""


def parse_location(text: str, *, endpoint: str = "", region: str = "", base: Path | None = None) -> Location:
    """Returns the location that a user has written; a path is a directory, relative ones below `base`.

    Raises InvalidInput, also for an address with credentials in it.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        if not text or "://" in text:
            raise InvalidInput(f"{text!r} is no address", hint=_EXAMPLES)
        path = Path(text).expanduser()
        path = path if path.is_absolute() else (base or Path.cwd()) / path
        text, scheme = "file://" + quote(str(path)), "file"
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidInput(
            "an address has no credentials, query or fragment",
            hint="Credentials come from the environment (AWS_ACCESS_KEY_ID, …), profiles or the machine's role.",
        )
    if scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise InvalidInput(f"{text!r} names no directory", hint="Write file:///DIRECTORY.")
        if endpoint or region:
            raise InvalidInput("a directory has no endpoint and no region")
    elif scheme not in _SCHEMES or not parts.netloc:
        raise InvalidInput(f"{text!r} is no address of a remote", hint=_EXAMPLES)
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise InvalidInput(f"the endpoint {endpoint!r} is no address", hint="Write it as http://HOST:PORT.")
    return Location(text.rstrip("/") if scheme != "file" else text, endpoint.rstrip("/"), region)


def open_location(location: Location, *, create: bool = False) -> ObjectBackend:
    """Opens the backend of a location; makes no request. `create`: makes a directory that is not there.

    Raises NotFound for a directory that is missing, Unsupported without the client library, InvalidInput, OSError.
    """
    parts = urlsplit(location.url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if create:
            path.mkdir(parents=True, exist_ok=True)
        elif not path.is_dir():
            raise NotFound(f"there is no directory {path}", hint="Connect the disk that it is on, or mount it.")
        return LocalBackend(path)
    if parts.scheme in ("https", "http"):
        return ObjectStorageBackend("https", location.url, location.url, "", {})
    options = {}
    if location.endpoint:
        options["endpoint"] = location.endpoint
    if parts.scheme == "s3" and location.region:
        options["region"] = location.region
    elif parts.scheme == "s3" and location.endpoint:
        # Services with an endpoint of their own take any region, and signatures need one.
        options["default_region"] = "us-east-1"
    prefix = parts.path.strip("/")
    return ObjectStorageBackend(parts.scheme, location.url, parts.netloc, prefix, options)
