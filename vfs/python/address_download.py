"""Fetching the files of an address of fsspec into a directory: `s3://…`, `hf://…`, `dvc://…`, `github://…`, `zip://…`.

What is behind an address comes from others: names that lead out of the directory are refused, and nothing but regular
files is made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

import fsspec  # type: ignore[import-untyped]

from vfs.backend.bucket_files import SCHEMES, BucketFiles
from vfs.errors import InvalidInput, NotFound, Unsupported, VfsError
from vfs.model.layout import MARK
from vfs.model.names import is_name, show_path

SOURCE = "vfs.source"
"""The key of metadata that says where an import came from."""
REVISION = "vfs.source-revision"
"""The key of the revision there, where the address or the filesystem names one."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*(://|::)")
_MARK = os.fsdecode(MARK)
"""Before a host or a revision in an address."""
_MESSAGE_CHARACTERS_MAX = 500
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "created")

FileDone = Callable[[int, int], None]
"""Is called with the numbers of files and of bytes that are there so far."""


class NotFetched(VfsError):
    """What is at an address cannot be read."""

    code = "not-fetched"


class Fetched(NamedTuple):
    """What was fetched, and the metadata that says from where."""

    files: int
    size_bytes: int
    metadata: dict[str, str]


def fetch(address: str, directory: Path, done: FileDone, *, endpoint: str = "") -> Fetched:
    """Copies all files below an address, or the one that it is, into an empty directory.

    `endpoint`: the address of the service that `s3://` means, where it is not Amazon's.

    Raises InvalidInput for something else than an address, and for names that lead out of the directory; Unsupported
    where the library for its scheme is missing; NotFound for nothing there; NotFetched with what the library says;
    OSError for a full disk.
    """
    shown = without_secrets(address)
    if not _SCHEME.match(address):
        raise InvalidInput(f"{shown} is no address", hint="Write it with its scheme, as s3://bucket/path.")
    filesystem, path = _opened(address, shown, endpoint)
    metadata = _metadata(filesystem, shown)
    with _reading(shown):
        path, commit = pinned(filesystem, path)
    if commit:
        metadata[REVISION] = commit
    files, size = copy_files(filesystem, path, directory, shown, done)
    set_directory_times(directory)
    return Fetched(files, size, metadata)


def copy_files(
    filesystem: Any, path: str, directory: Path, shown: str, done: FileDone, time_ns: int = 0
) -> tuple[int, int]:
    """Copies all files below a path of a filesystem of fsspec; returns how many there are, and their bytes.

    They get the times that the filesystem knows, or `time_ns`. Raises what `fetch` does.
    """
    with _reading(shown):
        found = filesystem.find(path, detail=True)
    # Of a file alone some know nothing more.
    files = [(name, info) for name, info in found.items() if info.get("type", "file") == "file"]
    # Object storage has empty objects in the place of directories.
    above = {parent for name, _ in files for parent in _parents(name)}
    files = [(name, info) for name, info in files if name not in above or info.get("size")]
    if not files:
        raise NotFound(f"there is no file at {shown}")
    size = 0
    is_web = not {"http", "https"}.isdisjoint(
        (filesystem.protocol,) if isinstance(filesystem.protocol, str) else filesystem.protocol
    )
    for number, (name, info) in enumerate(sorted(files), 1):
        target = directory / (_of_url(name, path, shown) if is_web else _relative(name, path, shown))
        target.parent.mkdir(parents=True, exist_ok=True)
        with _reading(shown), filesystem.open(name, "rb") as source, open(target, "xb") as copy:
            while data := source.read(1 << 20):
                copy.write(data)
                size += len(data)
        if time_ns:
            os.utime(target, ns=(time_ns, time_ns))
        else:
            _set_time(target, info)
        done(number, size)
    return len(files), size


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def without_secrets(address: str) -> str:
    """Returns an address without passwords and signed queries: it is kept with the version for ever."""
    parts = []
    for part in address.split("::"):
        split = urlsplit(part)
        if not split.scheme or (_MARK not in split.netloc and not split.query):
            parts.append(part)
            continue
        user, mark, host = split.netloc.rpartition(_MARK)
        # `user@` of git and `path@revision` stay; what follows a colon is a password.
        kept = user.partition(":")[0] + mark + host if ":" in user else split.netloc
        parts.append(urlunsplit((split.scheme, kept, split.path, "", split.fragment)))
    return "::".join(parts)


def _opened(address: str, shown: str, endpoint: str) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        found = _of_remotes(address, endpoint)
        if found is not None:
            return found
        extra = " Or install 'vfs-versions[remote]'." if _scheme(address) in SCHEMES else ""
        raise Unsupported(f"{shown} needs a library that is not installed", hint=f"{error}.{extra}") from None
    except ValueError as error:
        raise InvalidInput(f"{shown} is no address that can be read: {error}") from None
    except Exception as error:  # noqa: BLE001  Each library has errors of its own.
        raise NotFetched(f"{shown} cannot be read: {error}") from None
    return filesystem, path


def _scheme(address: str) -> str:
    return address.partition("://")[0]


def _of_remotes(address: str, endpoint: str) -> tuple[Any, str] | None:
    """Returns the objects of a bucket and the path there, where fsspec's own library is not there; or None."""
    scheme, _, path = address.partition("://")
    if scheme not in SCHEMES or "::" in address:
        return None
    try:
        return BucketFiles(scheme, endpoint), path.strip("/")
    except Unsupported:
        return None


@contextlib.contextmanager
def _reading(shown: str) -> Any:
    """Raises errors of the library, of which each has its own, as NotFetched; those of the local disk stay."""
    try:
        yield
    except VfsError:
        raise
    except FileNotFoundError:
        raise NotFound(f"there is nothing at {shown}") from None
    except OSError as error:
        if isinstance(error.filename, str | bytes) or error.errno is not None:
            raise
        raise NotFetched(f"{shown} cannot be read: {error}") from None
    except Exception as error:  # noqa: BLE001  Each library has errors of its own.
        said = str(error).strip().partition("\n")[0][:_MESSAGE_CHARACTERS_MAX]
        raise NotFetched(f"{shown} cannot be read: {type(error).__name__}: {said}") from None


def _relative(name: str, top: str, shown: str) -> Path:
    """Returns a file's path from the top; raises InvalidInput for one that leads elsewhere."""
    relative = name[len(top) :].lstrip("/") if name.startswith(top) else name.lstrip("/")
    relative = relative or posixpath.basename(name.rstrip("/"))
    names = relative.split("/")
    if any(each in ("", ".", "..") or not is_name(os.fsencode(each)) for each in names):
        raise InvalidInput(f"{shown} has a file whose name cannot be kept: {show_path(os.fsencode(name))}")
    return Path(*names)


def _of_url(name: str, top: str, shown: str) -> Path:
    """Returns the same for a file on the web: names are decoded, and a query, which may be a secret, is left out."""
    return _relative(unquote(urlsplit(name).path), unquote(urlsplit(top).path), shown)


def _set_time(path: Path, info: dict[str, Any]) -> None:
    for key in _TIMES:
        value: Any = info.get(key)
        stamp = value.timestamp() if isinstance(value, datetime) else value
        if isinstance(stamp, int | float) and 0 < stamp < 1 << 40:
            os.utime(path, (stamp, stamp))
            return


def set_directory_times(top: Path) -> None:
    """Gives each directory the time of the newest file below it: the same whenever it is fetched."""
    for above, directories, files in os.walk(top, topdown=False):
        times = [os.lstat(os.path.join(above, name)).st_mtime_ns for name in (*directories, *files)]
        if times:
            os.utime(above, ns=(max(times), max(times)))


def pinned(filesystem: Any, path: str) -> tuple[str, str]:
    """Returns a path of Hugging Face's hub, or of `vfs://`, at the commit that its name means now, and that commit.

    So all files are of one commit, also if another one is made meanwhile. Other paths are returned as they are.
    """
    if filesystem.protocol == "vfs":
        at_version: tuple[str, str] = filesystem.at_version(path)
        return at_version
    if filesystem.protocol != "hf":
        return path, ""
    there = filesystem.resolve_path(path)
    if not hasattr(there, "repo_id"):
        return path, ""
    said = filesystem._api.repo_info(there.repo_id, repo_type=there.repo_type, revision=there.revision)  # noqa: SLF001
    at_commit = dataclasses.replace(there, revision=said.sha, _raw_revision=said.sha)
    return at_commit.unresolve(), said.sha


def _metadata(filesystem: Any, shown: str) -> dict[str, str]:
    metadata = {SOURCE: shown}
    for name in ("ref", "rev", "revision", "sha"):
        value = getattr(filesystem, name, None)
        if isinstance(value, str) and value:
            metadata[REVISION] = value
            break
    return metadata
