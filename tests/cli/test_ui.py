"""`vfs ui`: its process, and what it says when it cannot start."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import TIMEOUT_S
from vfs.repo.repository import Repository

UI = [sys.executable, "-m", "vfs", "ui", "--no-browser"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    Repository.init(tmp_path / "repo").close()
    return tmp_path / "repo"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*UI, *arguments], capture_output=True, text=True, timeout=300, check=False)


def test_misuse_and_what_is_not_there_are_said_before_a_server_starts(tmp_path: Path, repository: Path) -> None:
    assert run("-R", str(tmp_path / "none")).returncode == 3
    assert run("-R", str(repository), "--port", "1", "--socket", "x").returncode == 2
    assert run("-R", str(repository), "--port", "70000").returncode == 2
    assert "no branch" in run("-R", str(repository), "-b", "none").stderr


def test_a_port_that_is_taken_is_named(repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("-R", str(repository), "--port", str(port))
    assert done.returncode == 4
    assert f"port {port}" in done.stderr


def test_a_unix_socket_is_the_owners_alone_and_goes_at_the_end(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    with subprocess.Popen(
        [*UI, "-R", str(repository), "--socket", str(path), "--json"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        where = json.loads(server.stdout.readline())
        assert where["socket"] == str(path)
        assert path.stat().st_mode & 0o777 == 0o600
        second = run("-R", str(repository), "--socket", str(path))
        assert second.returncode == 4
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/")
        assert connection.getresponse().status == 401
        connection.close()
        server.terminate()
        assert server.wait(TIMEOUT_S) == 0
    assert not path.exists()


def test_no_program_comes_from_the_directory_of_data_that_it_is_started_in(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("uvicorn", "http", "jinja2"):
        (data / f"{name}.py").write_text("open('started', 'w').close()\nraise SystemExit(9)\n")
    command = [sys.executable, "-P", *UI[1:], "-R", str(repository), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=data) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["port"]
        server.terminate()
    assert not (data / "started").exists()


def test_the_server_ends_when_its_command_is_killed(repository: Path) -> None:
    with subprocess.Popen([*UI, "-R", str(repository), "--json"], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        port = json.loads(command.stdout.readline())["port"]
        # The server's end of a connection closes when the server ends.
        with socket.create_connection(("127.0.0.1", port)) as connection:
            command.kill()
            connection.settimeout(TIMEOUT_S)
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                # It ended before it took the connection.
                return


_ENDED_EARLY = """
import os, signal, sys, uvicorn
from vfs.web.__main__ import main
run = uvicorn.Server.run
def late(self, **named):
    os.kill(os.getpid(), signal.SIGTERM)
    run(self, **named)
uvicorn.Server.run = late
sys.exit(main(sys.argv[1:]))
"""


def test_a_server_that_is_ended_before_it_listens_to_signals_ends(repository: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _ENDED_EARLY, str(repository)], timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0
