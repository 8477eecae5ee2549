"""The versions that `vfs run` and `vfs bisect` work on where the user names none, or names a run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vfs.cli.arguments.version_or_path import version_of
from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.terminal.output import warn
from vfs.errors import InvalidInput, NotFound
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.model.run_record import Source
from vfs.repo.pins import PIN_BYTES_MAX, Pin, PinState, decode_pin, pin_state
from vfs.repo.runs.environment import code_directory
from vfs.repo.runs.records import RunRef, find_run, find_version, is_named, load_record
from vfs.store.refs.operation import BRANCHES, TAGS

_RUN = re.compile(r"r[1-9][0-9]*(-[0-9a-f]*)?")
_DEPTH_MAX = 64
_PINS_MAX = 100


def pin_beside(opened: OpenRepository, command: Sequence[str], cwd: str) -> tuple[str, Version] | None:
    """Returns the pin (a file `*.pin` as `vfs pin` prints it) in the current directory, else in the root of the code.

    The result is its path and the version. Raises InvalidInput for pins of several versions, NotFound for one whose
    version is not there. Files that are no pins do not count.
    """
    for directory in dict.fromkeys([cwd, _code_root(command, cwd)]):
        pins = _pins_in(directory)
        states = [(path, pin, pin_state(opened.repository, pin)) for path, pin in pins]
        there = {pin.commit: path for path, pin, state in states if state in ("same", "moved")}
        if len(there) > 1:
            names = ", ".join(show_path(os.fsencode(os.path.basename(path))) for path in there.values())
            raise InvalidInput(f"several versions are pinned here: {names}", hint="Choose with --at, or --no-pin.")
        for commit, path in there.items():
            commit_id = CommitId(bytes.fromhex(commit))
            return path, Version(commit_id, opened.repository.store.get_commit(commit_id))
        if states:
            raise _no_version(*states[0])
    return None


def _no_version(path: str, pin: Pin, state: PinState) -> NotFound:
    words = {"forgotten": "was forgotten", "different": "has another tree: the file was edited"}
    return NotFound(
        f"{show_path(os.fsencode(path))} pins {pin.commit[:8]}, which {words.get(state, 'is not in this repository')}",
        hint="Name a version by --at, or leave the pin aside by --no-pin.",
    )


def _pins_in(directory: str) -> list[tuple[str, Pin]]:
    found = []
    with suppress(OSError):
        names = sorted(name for name in os.listdir(directory) if name.endswith(".pin"))
        for name in names[:_PINS_MAX]:
            path = os.path.join(directory, name)
            with suppress(OSError, InvalidInput):
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                with os.fdopen(descriptor, "rb") as file:
                    found.append((path, decode_pin(file.read(PIN_BYTES_MAX + 1))))
    return found


def _code_root(command: Sequence[str], cwd: str) -> str:
    """Returns the top of the git work tree that the program's script is in, else the script's directory."""
    start = Path(code_directory(command, cwd))
    for above in (start, *start.parents)[:_DEPTH_MAX]:
        if (above / ".git").exists():
            return str(above)
    return str(start)


def run_named(opened: OpenRepository, text: str) -> RunRef | None:
    """Returns the run that a word such as `r17` names; None for another word, and for a tag or branch of this name."""
    refs = opened.repository.refs
    if not _RUN.fullmatch(text) or refs.get(TAGS + text) is not None or refs.get(BRANCHES + text) is not None:
        return None
    return find_run(opened.repository, text)


def version_of_source(opened: OpenRepository, run: RunRef, source: Source) -> Version | None:
    """Returns the version that a run read, None where it is gone; warns of one that is found by its number alone."""
    found = find_version(opened.repository, source.commit, source.branch, source.number)
    if found is not None and source.commit and not is_named(source, found):
        read = f"{source.commit[:SHORT_HEX]}, which {run.name} read, is not here"
        warn(f"{read}: the version that now has its number is taken, {found.id.hex()[:SHORT_HEX]}")
    return found


def version_or_read(opened: OpenRepository, text: str) -> Version:
    """Returns the version that a word names, of a run the one that it read.

    Raises InvalidInput for a run that read no version, several, or uncommitted changes.
    """
    run = run_named(opened, text)
    if run is None:
        return version_of(opened, text)
    record = load_record(opened.repository, run)
    sources = [source for source in record.sources if source.opened or source.listed]
    if len(sources) != 1:
        what = "no version" if not sources else f"{len(sources)} versions"
        raise InvalidInput(f"{run.name} read {what}", hint="Name the version itself.")
    if sources[0].known == "snapshot":
        raise InvalidInput(f"{run.name} read uncommitted changes, which are no version", hint="Name a version.")
    found = version_of_source(opened, run, sources[0])
    if found is None:
        raise NotFound(f"the version that {run.name} read was forgotten", hint="Name another one.")
    return found
