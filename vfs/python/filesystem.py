"""Versions as a filesystem of fsspec, `vfs://REPOSITORY@VERSION/path`. `fsspec` is an extra.

Synchronous: everything is local, and an event loop in a thread would only add to it.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem  # type: ignore[import-untyped]

from vfs.errors import InvalidInput, IsADirectory, NotADirectory, NotFound, VfsError
from vfs.model.ids import CommitId
from vfs.model.layout import MARK
from vfs.model.names import join_path, path_text, show_path
from vfs.model.objects import Entry, Kind, Version
from vfs.python.entries import Found, find, path_bytes
from vfs.python.hints import hint_text
from vfs.python.mounted_paths import path_in_mount, repository_at
from vfs.python.open_repositories import SharedRepository, shared_repository
from vfs.python.version_files import File, RawFile, read_range
from vfs.repo.paths import CONFIG
from vfs.store.trees.directories import entries, file_content, walk

_READERS_MAX = 16
"""Open files that are kept for the next range of the same file."""
_MARK = os.fsdecode(MARK)
_TYPES = {Kind.FILE: "file", Kind.DIR: "directory"}


class Place(NamedTuple):
    """What a path of the filesystem names: a repository, a version, and a path in it. `base` is the part before."""

    shared: SharedRepository
    version: Version
    base: str
    path: bytes


class VersionFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types.
    """Versions, read-only.

    Paths are `REPOSITORY@VERSION/path`; of a filesystem made with `repository` and `version` they are relative to that
    version. A version is named as in `vfs.open(…)[…]`. Pickled, it is of the versions that the names stood for: in
    another process `latest` is the same.
    """

    protocol = "vfs"
    root_marker = ""
    async_impl = False

    def __init__(
        self,
        repository: str | None = None,
        version: str | None = None,
        pinned: tuple[tuple[str, str], ...] = (),
        **options: Any,
    ) -> None:
        """Raises FileNotFoundError for a repository or version that is not there."""
        super().__init__(repository=repository, version=version, pinned=pinned, **options)
        if (repository is None) != (version is None):
            raise ValueError("a filesystem of one version takes a repository and a version")
        self._pinned = dict(pinned)
        self._used: dict[str, str] = {}
        self._readers: OrderedDict[tuple[str, bytes], RawFile] = OrderedDict()
        self._repository = repository
        self._bound: tuple[SharedRepository, Version] | None = None
        if repository is not None and version is not None:
            with _as_os_errors(f"{repository}@{version}"):
                self._bound = self._opened(repository, version)

    @property
    def fsid(self) -> str:
        """A name of the filesystem."""
        return "vfs" if self._bound is None else f"vfs-{self._bound[1].id.hex()}"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._bound is not None:
            return VersionFileSystem, (str(self._bound[0].path), self._bound[1].id.hex())
        return VersionFileSystem, (None, None, tuple(sorted({**self._pinned, **self._used}.items())))

    # Names.

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = os.fspath(path)
        if text.startswith("vfs://"):
            text = text[len("vfs://") :]
        elif text.startswith("vfs::"):
            text = text[len("vfs::") :]
        return text.rstrip("/")

    def unstrip_protocol(self, name: str) -> str:
        """Returns the whole address of a path."""
        text = self._strip_protocol(name)
        if self._bound is None:
            return f"vfs://{text}"
        return f"vfs://{self._bound[0].path}@{self._bound[1].id.hex()}/{text}".rstrip("/")

    def _place(self, path: Any) -> Place:
        """Returns what a path names. Raises NotFound, InvalidInput."""
        text = self._strip_protocol(path)
        if self._bound is not None:
            return Place(*self._bound, "", path_bytes(text))
        repository, version, rest = split_address(text)
        return Place(*self._opened(repository, version), f"{repository}@{version}", path_bytes(rest))

    def _opened(self, repository: str, version: str) -> tuple[SharedRepository, Version]:
        directory = Path(repository)
        if not directory.is_absolute() and not directory.exists() and Path("/", repository).exists():
            # Some libraries take addresses for ones with a host, and drop the slash at the beginning.
            directory = Path("/", repository)
        shared = shared_repository(repository_at(directory))
        opened = shared.opened()
        name = f"{repository}@{version}"
        pinned = self._pinned.get(name)
        if pinned is not None:
            identity = CommitId(bytes.fromhex(pinned))
            return shared, Version(identity, opened.store.get_commit(identity))
        found = opened.resolve(version)
        self._used[name] = found.id.hex()
        return shared, found

    def _find(self, path: Any, *, follow: bool = True) -> tuple[Place, Found]:
        """Returns what a path names, and what is there. Asked twice, `latest` may be two versions."""
        place = self._place(path)
        return place, self._found(place, follow=follow)

    def at_version(self, path: Any) -> tuple[str, str]:
        """Returns a path with its version's id in the place of a name, which may move, and that id."""
        with _as_os_errors(path):
            place = self._place(path)
        identity = place.version.id.hex()
        base = f"{place.shared.path}@{identity}" if place.base else ""
        return "/".join(filter(None, (base, path_text(place.path)))), identity

    def _found(self, place: Place, *, follow: bool = True) -> Found:
        return find(place.shared.opened().store, place.version.commit.root, place.path, follow=follow)

    # What is there.

    def info(self, path: Any, **_: Any) -> dict[str, Any]:
        """Returns name, size, type, `hash`, `mtime` and more of a path; of a link, what it leads to.

        Raises FileNotFoundError, also for a link that leads nowhere or out of the version.
        """
        with _as_os_errors(path):
            place, found = self._find(path, follow=False)
            if found.entry.kind != Kind.SYMLINK:
                return self._plain_info(place, place.path, found.entry)
            followed = self._found(place).entry
            return {**self._plain_info(place, place.path, followed), **_link(found.entry)}

    def lexists(self, path: Any, **_: Any) -> bool:
        """Returns True if something is at a path, a link that leads nowhere too."""
        try:
            self._find(path, follow=False)
        except (NotFound, NotADirectory, InvalidInput):
            return False
        return True

    def _info(self, place: Place, path: bytes, entry: Entry) -> dict[str, Any]:
        """Returns what a listing says: of a link to a directory that it is none, so that no walk goes in circles."""
        if entry.kind != Kind.SYMLINK:
            return self._plain_info(place, path, entry)
        try:
            followed = find(place.shared.opened().store, place.version.commit.root, path).entry
        except (NotFound, NotADirectory):
            # It leads nowhere, or out of the version.
            return {**self._plain_info(place, path, entry), **_link(entry), "type": "link"}
        value = {**self._plain_info(place, path, followed), **_link(entry)}
        return {**value, "type": "other"} if followed.kind == Kind.DIR else value

    def _plain_info(self, place: Place, path: bytes, entry: Entry) -> dict[str, Any]:
        text = path_text(path)
        name = f"{place.base}/{text}" if place.base and text else text or place.base
        kind = Kind(entry.kind)
        value: dict[str, Any] = {
            "name": name,
            "size": entry.size if kind != Kind.DIR else 0,
            "type": _TYPES.get(kind, "other"),
            "mode": entry.mode,
            "mtime": entry.mtime_ns / 1e9,
            "version": place.version.id.hex(),
        }
        if entry.content and kind != Kind.SYMLINK:
            value["hash"] = entry.content.hex()
        return value

    def ls(self, path: Any, detail: bool = True, **_: Any) -> list[Any]:
        """Returns the entries of a directory, or the one of a file."""
        with _as_os_errors(path):
            place, found = self._find(path)
            if found.entry.kind != Kind.DIR:
                infos = [self._info(place, place.path, found.entry)]
            else:
                store = place.shared.opened().store
                infos = [self._info(place, join_path(place.path, e.name), e) for e in entries(store, found.entry)]
        return infos if detail else [info["name"] for info in infos]

    def find(
        self, path: Any, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **_: Any
    ) -> Any:
        """Returns all files below a path: one walk over the tree, without a listing for each directory."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        found: dict[str, dict[str, Any]] = {}
        try:
            place, start = self._find(path)
        except (NotFound, NotADirectory, InvalidInput):
            return {} if detail else []
        if start.entry.kind != Kind.DIR:
            info = self._info(place, place.path, start.entry)
            found[info["name"]] = info
        else:
            if withdirs and (place.path or place.base):
                info = self._info(place, place.path, start.entry)
                found[info["name"]] = info
            for info in self._below(place, start.entry, maxdepth):
                if withdirs or info["type"] != "directory":
                    found[info["name"]] = info
        names = sorted(found)
        return {name: found[name] for name in names} if detail else names

    def _below(self, place: Place, directory: Entry, maxdepth: int | None) -> Iterator[dict[str, Any]]:
        store = place.shared.opened().store
        if maxdepth is None:
            for path, _, entry in walk(store, directory, place.path):
                yield self._info(place, path, entry)
            return
        level = [(place.path, directory)]
        for _ in range(maxdepth):
            deeper = []
            for above, each in level:
                for entry in entries(store, each):
                    path = join_path(above, entry.name)
                    yield self._info(place, path, entry)
                    if entry.kind == Kind.DIR:
                        deeper.append((path, entry))
            level = deeper

    def modified(self, path: Any) -> datetime:
        """Returns a file's modification time, in UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def created(self, path: Any) -> datetime:
        """Returns when the version was made, in UTC."""
        with _as_os_errors(path):
            return datetime.fromtimestamp(self._place(path).version.commit.time_ns / 1e9, UTC)

    def ukey(self, path: Any) -> str:
        """Returns the id of the content: equal for equal content, in all versions."""
        info = self.info(path)
        return str(info.get("hash", f"empty-{info['type']}-{info['size']}"))

    def checksum(self, path: Any) -> int:
        """Returns the id of the content as a number."""
        key = self.ukey(path)
        return int(key, 16) if not key.startswith("empty") else 0

    def local_path(self, path: Any) -> str | None:
        """Returns a path of the operating system, where a live mount shows the version, else None."""
        with _as_os_errors(path):
            place, found = self._find(path)
            shown = path_in_mount(place.shared.path, place.version.name, place.version.id.hex(), found.path)
        return None if shown is None else str(shown)

    # Bytes.

    def _open(self, path: Any, mode: str = "rb", cache_type: str | None = None, **options: Any) -> Any:
        """Opens a file. With a `cache_type` it is fsspec's own kind of file, with blocks and that cache."""
        if mode != "rb":
            raise _read_only(path)
        with _as_os_errors(path):
            place = self._place(path)
            raw = self._raw(place)
            if cache_type is None:
                return File(raw)
            options["size"] = raw.size
            # Its blocks are read later, and in other processes: of this version, whatever the name stands for then.
            pinned = ((place.base, place.version.id.hex()),)
            of_version = self if self._bound is not None else VersionFileSystem(pinned=pinned)
            return CachedFile(of_version, self._strip_protocol(path), mode, cache_type=cache_type, **options)

    def open(self, path: Any, mode: str = "rb", **options: Any) -> Any:
        """Opens a file; text modes and `compression` work as in fsspec. Raises OSError (EROFS) for writing."""
        if set(mode) & set("wax+"):
            raise _read_only(path)
        return super().open(path, mode, **options)

    def _raw(self, place: Place) -> RawFile:
        found = self._found(place)
        if found.entry.kind == Kind.DIR:
            raise IsADirectory(f"{show_path(place.path)} is a directory")
        if found.directory is None or found.entry.kind != Kind.FILE:
            raise NotFound(f"{show_path(place.path)} is no regular file")
        store = place.shared.opened().store
        return RawFile(place.shared, file_content(store, found.directory, found.entry), path_text(place.path))

    def _kept(self, place: Place) -> RawFile:
        """Returns an open file, kept for the next range of it."""
        key = (place.version.id.hex(), place.path)
        raw = self._readers.pop(key, None)
        if raw is None:
            raw = self._raw(place)
        self._readers[key] = raw
        while len(self._readers) > _READERS_MAX:
            self._readers.popitem(last=False)
        return raw

    def cat_file(self, path: Any, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Returns a file's bytes, or those of a range; negative numbers count from the end."""
        with _as_os_errors(path):
            return self._range(self._place(path), start, end)

    def _range(self, place: Place, start: int | None, end: int | None) -> bytes:
        raw = self._kept(place)
        first = _place_in(start, raw.size, 0)
        return read_range(raw.reader(), first, max(first, _place_in(end, raw.size, raw.size)))

    def cat_ranges(
        self,
        paths: Sequence[Any],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Returns the bytes of many ranges, those of a file of one version: it is opened once, and read in order.

        `max_gap` changes nothing: ranges are not joined, as what is between them is not read.
        """
        if not isinstance(paths, list):
            raise TypeError
        starts = starts if isinstance(starts, list | tuple) else [starts] * len(paths)
        ends = ends if isinstance(ends, list | tuple) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("paths, starts and ends must have the same length")
        found: list[Any] = [None] * len(paths)
        places: dict[str, Place] = {}
        for number in sorted(range(len(paths)), key=lambda at: (str(paths[at]), starts[at] or 0)):
            path = str(paths[number])
            try:
                with _as_os_errors(path):
                    place = places[path] = places.get(path) or self._place(path)
                    found[number] = self._range(place, starts[number], ends[number])
            except Exception as error:
                if on_error == "raise":
                    raise
                found[number] = error
        return found

    # Nothing can be written.

    def mkdir(self, path: Any, create_parents: bool = True, **_: Any) -> None:
        """Raises OSError (EROFS), as everything that writes."""
        raise _read_only(path)

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path)

    def rmdir(self, path: Any) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path)

    def _rm(self, path: Any) -> None:
        raise _read_only(path)

    def cp_file(self, path1: Any, path2: Any, **_: Any) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path2)

    def put_file(self, lpath: Any, rpath: Any, *_: Any, **__: Any) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(rpath)

    def pipe_file(self, path: Any, value: Any, mode: str = "overwrite", **_: Any) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path2)

    def touch(self, path: Any, truncate: bool = True, **_: Any) -> None:
        """Raises OSError (EROFS)."""
        raise _read_only(path)


class CachedFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types.
    """A file that is read in blocks, through a cache of fsspec's that the caller chose; pickles with its filesystem."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))


def split_address(text: str) -> tuple[str, str, str]:
    """Returns the repository, the version and the path of `REPOSITORY@VERSION/path`.

    A repository's path may have an `@`, and so may the path: the first `@` after a repository's directory counts, else
    the first one. Raises InvalidInput for a text without a version.
    """
    cuts = [at for at, letter in enumerate(text) if letter == _MARK and at > 0 and text[at - 1] != "/"]
    if not cuts:
        raise InvalidInput(f"{text!r} names no version: write vfs://REPOSITORY@VERSION/PATH")
    cut = cuts[0]
    for at in cuts if len(cuts) > 1 else ():
        if (Path(text[:at]) / CONFIG).is_file():
            cut = at
            break
    version, _, path = text[cut + 1 :].partition("/")
    if not version:
        raise InvalidInput(f"{text!r} names no version: write vfs://REPOSITORY@VERSION/PATH")
    return text[:cut], version, path


def _link(entry: Entry) -> dict[str, Any]:
    return {"islink": True, "destination": path_text(entry.content)}


def _place_in(number: int | None, size: int, default: int) -> int:
    if number is None:
        return default
    return max(0, size + number) if number < 0 else min(number, size)


def _read_only(path: Any) -> OSError:
    return OSError(errno.EROFS, "a version is read-only", str(path))


@contextmanager
def _as_os_errors(path: Any) -> Iterator[None]:
    """Raises the errors of `vfs.errors` as OSErrors of their number, which is what fsspec's users expect."""
    try:
        yield
    except VfsError as error:
        number = errno.ENOENT if isinstance(error, InvalidInput) else error.errno
        raised = OSError(number, error.message, str(path))
        if error.hint:
            raised.add_note(hint_text(error.hint))
        raise raised from error
