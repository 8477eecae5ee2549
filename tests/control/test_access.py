"""Services without a mount, a daemon of another release, and warnings that reach the caller."""

from __future__ import annotations

import socket
import threading

import pytest

from support.repositories import Repositories
from vfs.api.hints import hint_text
from vfs.control.access import LayerAccess
from vfs.control.client import OtherRelease
from vfs.control.daemon_socket import short_path
from vfs.control.messages import CommitArgs, Empty, SwitchArgs
from vfs.control.services import CHANGES, COMMIT, PING, SWITCH
from vfs.errors import NotFound, NothingToDo
from vfs.repo.branches import create_branch
from vfs.repo.commit import commit
from vfs.repo.paths import control_socket
from vfs.repo.repository import Repository


def _leave_socket(repo: Repository) -> None:
    """Leaves the socket that a killed daemon leaves."""
    path = control_socket(repo.path, "main")
    with path.parent.opened(create=True, mode=0o700), socket.socket(socket.AF_UNIX) as server, short_path(path) as name:
        server.bind(name)


def test_a_service_runs_in_this_process_without_a_daemon(repositories: Repositories) -> None:
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        overlay.mknod(1, b"file", 0o100644, 0, 0, 0)
    access = LayerAccess(repo)
    assert [change.path for change in access.perform("main", CHANGES, Empty())] == [b"file"]
    result = access.perform("main", COMMIT, CommitArgs("m", "a"))
    head = repo.head()
    assert head is not None
    assert (result.number, result.id) == (1, head.id)
    assert access.perform("main", CHANGES, Empty()) == []
    assert access.ping("main") is None
    with pytest.raises(NotFound):
        access.perform("main", PING, Empty())


def test_a_switch_opens_no_working_layer(repositories: Repositories) -> None:
    repo = repositories.make()
    with repo.open_overlay() as overlay:
        overlay.mknod(1, b"file", 0o100644, 0, 0, 0)
        commit(repo, overlay, "m", "a")
        create_branch(repo, "side", repo.resolve("v1"), author="a")
        # This process holds the lock of main: opening it again would be refused.
        assert LayerAccess(repo).perform("main", SWITCH, SwitchArgs("side", "a")).switched
    assert repo.current_branch == "side"
    assert not repo.work_path("side").exists()


def test_a_warning_is_returned_once_also_where_the_service_fails(repositories: Repositories) -> None:
    repo = repositories.make()
    access = LayerAccess(repo)
    _leave_socket(repo)
    with pytest.raises(NothingToDo):
        access.perform("main", COMMIT, CommitArgs("m", "a"))
    assert [warning for warning in access.take_warnings() if "daemon was killed" in warning]
    assert access.take_warnings() == []
    assert not control_socket(repo.path, "main").exists()


def test_a_daemon_of_an_earlier_release_is_named_with_what_to_do(repositories: Repositories) -> None:
    repo = repositories.make()
    path = control_socket(repo.path, "main")
    with path.parent.opened(create=True, mode=0o700), socket.socket(socket.AF_UNIX) as server, short_path(path) as name:
        server.bind(name)
        server.listen()

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                # What daemons sent before messages had a version.
                connection.sendall(b"{}\n")
                connection.recv(1)

        daemon = threading.Thread(target=greet)
        daemon.start()
        with pytest.raises(OtherRelease) as caught:
            LayerAccess(repo).perform("main", COMMIT, CommitArgs("m", "a"))
        daemon.join()
    assert "mount again after an upgrade" in hint_text(caught.value.hint)
