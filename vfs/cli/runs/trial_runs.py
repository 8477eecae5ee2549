"""Runs of a command on versions and composed views, one after another, for `bisect` and `crosscheck`.

The command sees a version as the mount itself (vfs/control/pinned_view.py), and reports metrics into the file that
VFS_METRICS names. Its output goes to standard error: standard output is the caller's. Without a mount of the repository
one is made for the time.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.opening.working_layer import layer_mount
from vfs.cli.runs.observed_runs import Taken
from vfs.cli.terminal.output import warn
from vfs.control.mount_points import live_mounts
from vfs.control.pinned_view import start, version_directory
from vfs.errors import NotFound
from vfs.model.ids import CommitId
from vfs.model.names import show_path
from vfs.model.reported_metrics import Metrics
from vfs.repo.runs.metric_files import read_metrics
from vfs.repo.trial_verdicts import Run, require_command_works

METRICS = "VFS_METRICS"
"""The variable that names the file for metrics."""
_PROGRAM = (sys.executable, "-P", "-m", "vfs")
_ENDING_S = 10.0
_MOUNT_TIMEOUT_S = 120.0


class Shown(NamedTuple):
    """Where the whole repository is mounted; `branch`: whose daemon observes what is read there, None for none."""

    path: Path
    branch: str | None


@contextmanager
def mount_of(opened: OpenRepository) -> Iterator[Shown]:
    """Yields the repository's mount; without one, a mount is made and ended. Raises NotFound."""
    layer = layer_mount(opened)
    if layer is not None:
        yield Shown(Path(os.fsdecode(layer.mountpoint)), layer.branch)
        return
    repository = opened.place.repository
    whole = next((mount.path for mount in live_mounts() if mount.repository == repository and not mount.root), None)
    if whole is not None:
        yield Shown(whole, None)
        return
    with tempfile.TemporaryDirectory(prefix="vfs-") as above:
        place = Path(above, repository.name)
        place.mkdir()
        branch: str | None = opened.branch
        said = _mount(repository, place, "--branch", opened.branch)
        if said is not None:
            # Its working layer is in use, or cannot be written: versions can be read all the same.
            branch, said = None, _mount(repository, place, "--read-only")
        if said is not None:
            raise NotFound(
                f"{show_path(os.fsencode(repository))} is mounted nowhere, and could not be: {said}",
                hint="Mount it, then try again.",
            )
        try:
            yield Shown(place, branch)
        finally:
            subprocess.run([*_PROGRAM, "umount", str(place)], stdout=subprocess.DEVNULL, check=False)


def _mount(repository: Path, place: Path, *options: str) -> str | None:
    """Mounts a repository; returns None, or what the command said where it failed."""
    made = subprocess.run(
        [*_PROGRAM, "mount", *options, str(repository), str(place)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_MOUNT_TIMEOUT_S,
        check=False,
    )
    return None if made.returncode == 0 else made.stderr.strip()


Observing = Callable[[], AbstractContextManager[Taken]]
"""Begins to observe what a run reads (vfs/cli/runs/observed_runs.py)."""


def _unobserved() -> AbstractContextManager[Taken]:
    return nullcontext(lambda: None)


class Trials:
    """Runs one command on any stored commit, through a mount."""

    def __init__(
        self,
        mountpoint: Path,
        arguments: Sequence[str],
        *,
        directory: Path | None = None,
        variables: Mapping[str, str] | None = None,
        observing: Observing = _unobserved,
        is_quiet: bool = False,
    ) -> None:
        self._mountpoint = mountpoint
        self._arguments = list(arguments)
        self._directory = directory
        self._variables = dict(variables or {})
        self._observing = observing
        self._output = subprocess.DEVNULL if is_quiet else 2
        self._is_told = False

    def run(self, commit_id: CommitId, where: str) -> Run:
        """Runs the command on a commit, which `where` names in messages. Raises CommandFailed, NotStarted, NotFound."""
        version = version_directory(self._mountpoint, commit_id)
        with tempfile.TemporaryDirectory(prefix="vfs-") as directory:
            metrics = Path(directory, "metrics")
            metrics.touch()
            environment = {**os.environ, **self._variables, METRICS: str(metrics)}
            began = time.monotonic()
            with self._observing() as taken:
                started = start(
                    self._arguments,
                    self._mountpoint,
                    version,
                    environment,
                    directory=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=self._output,
                )
                self._tell(started.reason, started.data)
                status = _wait(started.process)
                seconds = time.monotonic() - began
                read = taken()
            found = _metrics(metrics)
        values = {name: value if math.isfinite(value) else None for name, value in found.last.items()}
        run = Run(status, values, round(seconds, 3), read)
        require_command_works(run, where)
        return run

    def _tell(self, reason: str, data: Path) -> None:
        if reason and not self._is_told:
            self._is_told = True
            warn(
                f"the command sees versions at paths of their own ({show_path(os.fsencode(data))}), not as the mount: "
                f"{reason}. It has to read them at {{data}} or VFS_DATA."
            )


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Returns the exit status; after Ctrl-C, which the command gets too, waits for it to end and raises."""
    try:
        status = process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
        raise
    if status == -signal.SIGINT:
        raise KeyboardInterrupt
    return status


def _metrics(path: Path) -> Metrics:
    """Returns the metrics in a file, none where the command removed it."""
    try:
        return read_metrics(path)
    except OSError:
        return Metrics([], {})


def duration_text(seconds: float) -> str:
    """Returns a duration as `0.2 s`, `3 min 10 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
