"""The control socket: permissions, refused requests, and misbehaving clients."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

from support.mounts import Mount
from vfs.control.daemon_socket import short_path
from vfs.control.messages import REQUEST_BYTES_MAX, CommitArgs, CommitResult, Empty, ProgressUpdate
from vfs.control.services import CHANGES, COMMIT, PING
from vfs.errors import NothingToDo
from vfs.repo.paths import control_socket

pytestmark = pytest.mark.mount

CONNECT_AS_NOBODY = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setresuid(65534, 65534, 65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[2])
print(connection.recv(4096).decode())
"""


def _raw(mount: Mount, data: bytes) -> bytes:
    """Sends bytes as they are and returns all that comes back."""
    with socket.socket(socket.AF_UNIX) as connection, short_path(control_socket(mount.repository, "main")) as name:
        connection.connect(name)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while part := connection.recv(1 << 16):
            received += part
    return bytes(received)


def _is_alive(mount: Mount) -> bool:
    return mount.call(PING, Empty()).pid == mount.process.pid


def test_only_the_owner_can_reach_the_socket(mount: Mount) -> None:
    path = control_socket(mount.repository, "main").path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    # Even if the modes would admit another user, the daemon checks the peer's credentials.
    path.chmod(0o666)
    path.parent.chmod(0o755)
    command = [sys.executable, "-c", CONNECT_AS_NOBODY, str(path.parent), path.name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "not-permitted" in done.stdout


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"nonsense\n",
        b"{}\n",
        b'{"op": 5}\n',
        b'{"op": "ping"',
        b"\xff\xfe\n",
        b'{"op":"rm -rf","protocol":2}\n',
        b'{"op":"ping","protocol":2,"args":5}\n',
        b'{"op":"commit","protocol":2,"args":{"author":"x"}}\n',
    ],
)
def test_an_invalid_request_is_refused_with_a_message(mount: Mount, data: bytes) -> None:
    assert b'"code":"invalid-input"' in _raw(mount, data)
    assert _is_alive(mount)


def test_a_request_without_an_end_is_cut_off(mount: Mount) -> None:
    try:
        assert b"too long" in _raw(mount, b"x" * (REQUEST_BYTES_MAX + (1 << 18)))
    except (ConnectionResetError, BrokenPipeError):
        pass
    assert _is_alive(mount)


def test_wrong_arguments_are_the_callers_fault(mount: Mount) -> None:
    answer = _raw(mount, b'{"op":"commit","protocol":2,"args":{"author":"x"}}\n')
    assert b"missing required field `message`" in answer
    assert not (mount / "@v1").exists()


def test_a_command_of_a_release_with_other_messages_gets_the_hint_to_mount_again(mount: Mount) -> None:
    (mount / "file").touch()
    answer = _raw(mount, b'{"op":"commit","args":{"message":"m","author":"a"}}\n')
    assert b"of another release" in answer
    assert b"mount again after an upgrade" in answer
    assert not (mount / "@v1").exists()
    assert _is_alive(mount)


def test_a_result_of_any_length_arrives_whole(mount: Mount) -> None:
    # Longer than a line of a response may be.
    names = {b"%05d" % number + b"n" * 200 for number in range(4_000)}
    for name in names:
        open(os.path.join(os.fsencode(mount.path), name), "x").close()
    assert {change.path for change in mount.call(CHANGES, Empty())} == names


def test_errors_arrive_as_their_class(mount: Mount) -> None:
    with pytest.raises(NothingToDo):
        mount.commit()


def test_commits_at_the_same_time_come_one_after_another(mount: Mount) -> None:
    results: list[CommitResult] = []
    said: list[ProgressUpdate] = []

    def commit(number: int) -> None:
        (mount / f"file{number}").write_bytes(os.urandom(1 << 20))
        args = CommitArgs(str(number), "tester", allow_empty=True)
        results.append(mount.call(COMMIT, args, said.append))

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.number for result in results) == [1, 2, 3, 4]


def test_a_client_that_hangs_up_ends_nothing(mount: Mount) -> None:
    (mount / "file").write_bytes(os.urandom(4 << 20))
    with socket.socket(socket.AF_UNIX) as connection, short_path(control_socket(mount.repository, "main")) as name:
        connection.connect(name)
        connection.sendall(b'{"op":"commit","protocol":2,"args":{"message":"m","author":"a"}}\n')
    # What it asked for is done before the next operation that changes something.
    mount.call(COMMIT, CommitArgs("next", "tester", allow_empty=True))
    assert (mount / "@v1/file").stat().st_size == 4 << 20


def test_writers_continue_while_a_commit_runs(mount: Mount) -> None:
    for number in range(20):
        (mount / f"large{number}").write_bytes(os.urandom(1 << 20))
    done = threading.Event()

    def commit() -> None:
        mount.commit()
        done.set()

    thread = threading.Thread(target=commit)
    thread.start()
    written = 0
    while not done.is_set():
        (mount / f"during{written}").write_bytes(b"x" * 100)
        written += 1
    thread.join()
    assert written
    (mount / "after").touch()
    mount.commit()
    names = set(os.listdir(mount / "@v2"))
    assert {f"during{number}" for number in range(written)} <= names
