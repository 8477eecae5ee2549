"""Pinned views: a program is started so that the path of a mount *is* one version, for the program alone.

The program gets a mount namespace of its own in which the version's directory is bound over the mount point: root by
itself, other users in a user namespace that maps their own user and group ids to themselves, so that ids stay as they
are and no capability is gained (`sudo` and setuid programs do not work inside). Where the kernel refuses namespaces
(some containers), the program runs without: it then finds the version at another path, below the mount point.

`start` serves `bisect`, `crosscheck` and every other command that runs a program on one version. In the arguments,
`{data}` stands for the path of the version; the variable VFS_DATA has it too. `@` names below the mount point lead
nowhere inside a pinned view, as they are links to directories that the bind mount hides.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from vfs.errors import NotFound, VfsError
from vfs.model.ids import CommitId
from vfs.model.layout import marked
from vfs.model.names import show_path

DATA = "VFS_DATA"
"""The variable that has the path of the data."""
WRITTEN = "written"
"""The directory in a scratch directory that has what was written over a version."""
PLACEHOLDER = "{data}"
"""What stands for the path of the data in the arguments of a program."""

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19
_REASON_BYTES_MAX = 4096


class NotStarted(VfsError):
    """The program does not exist or may not be executed."""

    code = "not-started"


class Started(NamedTuple):
    """A program that runs. `data`: where it finds the version. `reason`: why its view is not pinned, else empty."""

    process: subprocess.Popen[bytes]
    data: Path
    reason: str = ""


def version_directory(mountpoint: Path, commit_id: CommitId) -> Path:
    """Returns the real directory of a stored commit in a mount. Raises NotFound where the mount does not show it."""
    name = mountpoint / os.fsdecode(marked(commit_id.hex().encode("ascii")))
    try:
        # It is a link where the commit has a number on the mount's branch.
        return name.resolve(strict=True)
    except OSError as error:
        raise NotFound(
            f"{show_path(os.fsencode(name))} cannot be reached: {error.strerror or error}",
            hint="Is the repository still mounted there, by this release of the program?",
        ) from error


def start(
    arguments: Sequence[str],
    mountpoint: Path,
    version: Path,
    environment: Mapping[str, str],
    *,
    pinned: bool = True,
    directory: Path | None = None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Started:
    """Starts a program that finds a version's directory at the mount point, or else where the version is.

    `pinned` False does not try a view of its own. `directory`: the program's current directory (None: the caller's);
    where it is in the mount, it is the same path of the version. Raises NotStarted; NotFound for a current directory
    that the version does not have.
    """
    here = directory if directory is not None else Path.cwd()
    reason = "it was not asked for"
    if pinned:
        reader, writer = os.pipe()
        try:
            enter = partial(_enter_or_tell, os.fsencode(mountpoint), os.fsencode(version), os.fsencode(here), writer)
            try:
                process = subprocess.Popen(
                    _filled(arguments, mountpoint),
                    env={**environment, DATA: str(mountpoint)},
                    preexec_fn=enter,  # noqa: PLW1509  (commands that start programs have one thread)
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                )
                return Started(process, mountpoint)
            except subprocess.SubprocessError:
                os.close(writer)
                writer = -1
                reason = os.read(reader, _REASON_BYTES_MAX).decode(errors="replace") or "it was refused"
            except OSError as error:
                raise _not_started(arguments, error) from error
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        if reason.startswith(_NO_DIRECTORY):
            raise NotFound(reason, hint="Run the command from a directory that every version has.")
    return _start_beside(arguments, mountpoint, version, environment, here, reason, stdin, stdout, stderr)


def _start_beside(
    arguments: Sequence[str],
    mountpoint: Path,
    version: Path,
    environment: Mapping[str, str],
    here: Path,
    reason: str,
    stdin: int | IO[bytes] | None,
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
) -> Started:
    inside = version / here.relative_to(mountpoint) if here.is_relative_to(mountpoint) else here
    if not inside.is_dir():
        raise NotFound(
            f"{_NO_DIRECTORY} {show_path(os.fsencode(here))}",
            hint="Run the command from a directory that every version has.",
        )
    try:
        process = subprocess.Popen(
            _filled(arguments, version),
            env={**environment, DATA: str(version)},
            cwd=inside,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
    except OSError as error:
        raise _not_started(arguments, error) from error
    return Started(process, version, reason)


_NO_DIRECTORY = "the version has no current directory"


def _filled(arguments: Sequence[str], data: Path) -> list[str]:
    return [word.replace(PLACEHOLDER, str(data)) for word in arguments]


def _not_started(arguments: Sequence[str], error: OSError) -> NotStarted:
    return NotStarted(
        f"{show_path(os.fsencode(arguments[0]))} cannot be started: {error.strerror or error}",
        hint="Give the program's path, and its arguments behind `--`.",
    )


def _enter_or_tell(mountpoint: bytes, version: bytes, here: bytes, writer: int) -> None:
    """Enters the view, in the new process between fork and exec; writes the reason and raises where that fails."""
    try:
        enter(mountpoint, version, here)
    except OSError as error:
        is_directory = error.filename == here
        reason = f"{_NO_DIRECTORY} {show_path(here)}" if is_directory else f"{error.filename}: {error.strerror}"
        os.write(writer, reason.encode())
        raise


def enter(mountpoint: bytes, version: bytes, here: bytes, scratch: bytes = b"") -> None:
    """Gives this process, which has one thread, the view, and `here` as its current directory, by its path in it.

    `scratch`: a directory whose WRITTEN takes what is written over the version; without it nothing can be written.
    Raises OSError; its file name is what was refused, or `here`.
    """
    library = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if library.unshare(_CLONE_NEWNS):
        _check(library.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "a mount namespace")
        _write("/proc/self/setgroups", b"deny")
        _write("/proc/self/uid_map", b"%d %d 1" % (uid, uid))
        _write("/proc/self/gid_map", b"%d %d 1" % (gid, gid))
    # Slave: what is mounted and unmounted outside shows here too, and nothing here shows outside.
    _check(library.mount(None, b"/", None, ctypes.c_ulong(_MS_REC | _MS_SLAVE), None), "/")
    if scratch:
        written, work = os.path.join(scratch, os.fsencode(WRITTEN)), os.path.join(scratch, b"work")
        os.makedirs(written, exist_ok=True)
        os.makedirs(work, exist_ok=True)
        options = b"lowerdir=%s,upperdir=%s,workdir=%s,userxattr" % (version, written, work)
        _check(library.mount(b"overlay", mountpoint, b"overlay", ctypes.c_ulong(0), options), "an overlay")
    else:
        _check(library.mount(version, mountpoint, None, ctypes.c_ulong(_MS_BIND | _MS_REC), None), os.fsdecode(version))
    os.chdir(here)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    os.write(descriptor, data)
    os.close(descriptor)
