"""Access to working layers wherever they are open: the daemon of a mount performs a service, else this process does.

One process at a time has a branch's working layer open, and holds its lock. A daemon that has it listens on a socket;
where no daemon does, this process opens the layer for the time of the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from vfs.control.messages import Empty, PingResult, ProgressUpdate, Report
from vfs.control.services import PING, RELEASE, LayerHost, Service
from vfs.errors import Busy, NotFound
from vfs.repo.paths import control_socket
from vfs.repo.repository import Repository

if TYPE_CHECKING:
    from vfs.control.client import DaemonClient
    from vfs.overlay.overlay import Overlay
    from vfs.overlay.state import Invalidation

CLOSING_TIMEOUT_S = 2.0
"""How long to wait for a mount to close a working layer that it no longer uses."""

A = TypeVar("A", bound=msgspec.Struct)
R = TypeVar("R")


def _connected(repository: Path, branch: str) -> DaemonClient | None:
    """Returns a connection to the daemon that has a branch's working layer; None where none has, mostly at once."""
    if not control_socket(repository, branch).exists():
        return None
    from vfs.control.client import DaemonClient

    return DaemonClient.connect(repository, branch)


def ignore_progress(_update: ProgressUpdate) -> None:
    """Is a Report that drops what it receives."""


class LayerAccess:
    """Access to the working layers of one repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._warnings: list[str] = []

    def take_warnings(self) -> list[str]:
        """Returns what opening layers had to recover since the last call, for the user; also after an error."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def perform(self, branch: str, service: Service[A, R], args: A, report: Report = ignore_progress) -> R:
        """Performs a service on a branch's working layer and returns its result.

        Raises what the service raises; Busy where another process has the layer and is no daemon; Unresponsive,
        DaemonGone, OtherRelease for a daemon.
        """
        client = _connected(self._repository.path, branch)
        if client is not None:
            with client:
                return client.call(service, args, report)
        with ExitStack() as stack:
            return service.perform(_OpenedHere(self, self._repository, branch, stack), args, report)

    def ping(self, branch: str) -> PingResult | None:
        """Returns which mount has a branch's working layer, None where none has."""
        client = _connected(self._repository.path, branch)
        if client is None:
            return None
        with client:
            return client.call(PING, Empty())

    @contextmanager
    def hold(self, branch: str) -> Iterator[PingResult | Overlay]:
        """Keeps a working layer open: yields the mount that has it, else the layer, opened here. Raises Busy."""
        client = _connected(self._repository.path, branch)
        if client is not None:
            with client:
                yield client.call(PING, Empty())
            return
        with self.open(branch) as overlay:
            yield overlay

    @contextmanager
    def open(self, branch: str) -> Iterator[Overlay]:
        """Opens a working layer that no daemon has. Raises Busy."""
        repository = self._repository
        try:
            overlay = repository.open_overlay(branch)
        except Busy as error:
            from vfs.control.daemon_socket import wait_until_closed

            # A mount may be closing the layer, now that its users have closed their files in it.
            if not wait_until_closed(repository.path, branch, CLOSING_TIMEOUT_S):
                raise Busy(
                    "another process has the working layer and does not answer",
                    hint="If it is a mount, see its log in REPO/run; if it is a command, wait for it.",
                ) from error
            overlay = repository.open_overlay(branch)
        with overlay:
            socket = control_socket(repository.path, branch)
            if socket.exists():
                # A daemon removes its socket before it unlocks the layer, and the lock is ours: this one was killed.
                socket.unlink(missing_ok=True)
                self._warnings.append("the mount's daemon was killed; what it had written is kept (mount again)")
            self._warnings += overlay.recovery.warnings()
            yield overlay


def release(repository: Path, branch: str, timeout_s: float = CLOSING_TIMEOUT_S) -> None:
    """Makes a mount close a branch that is not in its root and that no process uses; returns when it has, or cannot.

    Raises Busy where the branch is in a mount's root.
    """
    client = _connected(repository, branch)
    if client is not None:
        from vfs.control.daemon_socket import wait_until_closed

        with client:
            client.call(RELEASE, Empty())
        wait_until_closed(repository, branch, timeout_s)


class _OpenedHere(LayerHost):
    """This process, without a mount; it opens the layer when a service uses it, and closes it with `stack`."""

    def __init__(self, access: LayerAccess, repository: Repository, branch: str, stack: ExitStack) -> None:
        super().__init__(repository, branch)
        self._access = access
        self._stack = stack
        self._overlay: Overlay | None = None

    @property
    def overlay(self) -> Overlay:
        """The working layer, opened at the first use."""
        if self._overlay is None:
            self._overlay = self._stack.enter_context(self._access.open(self.branch))
        return self._overlay

    def describe(self) -> PingResult:
        """Raises NotFound: there is no mount."""
        raise NotFound(f"no mount has the branch {self.branch!r} open")

    def write_back_mapped_pages(self) -> None:
        """Does nothing: there are no mappings without a mount."""

    def invalidate(self, stale: Sequence[Invalidation]) -> None:
        """Does nothing: the kernel has no caches without a mount."""

    def switch_root(self, branch: str, change: Callable[[], bool]) -> bool:
        """Makes the change alone."""
        return change()

    def release(self) -> None:
        """Does nothing: the layer is closed after the service."""
