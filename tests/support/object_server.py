"""Real object servers: SeaweedFS, which honours conditional writes, one for a test session; rclone, which does not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vfs.backend.locations import Location, open_location
from vfs.backend.protocol import ObjectBackend

KEY, SECRET = "access-of-tests", "secret-of-tests"
_CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
START_S = 300.0
_BUCKET = "tests"
_ALSO = 10_000
"""SeaweedFS opens, beside each port that it is given, the one that is so much higher."""
_PROGRAMS = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    """Returns ports that are free, as are those 10,000 above them."""
    found: list[int] = []
    while len(found) < count:
        # Both below those that the kernel gives to connections, which would have them while the server is restarted.
        port = random.SystemRandom().randrange(11_000, 22_000)
        if port not in found and _is_free(port) and _is_free(port + _ALSO):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass
class ObjectServer:
    """A server process with an S3 address."""

    port: int
    directory: Path
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    prefixes: int = field(default=0)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the process and returns when it answers."""
        with (self.directory / "output").open("ab") as output:
            # It ends with this process, however that ends.
            command = ["setpriv", "--pdeathsig", "KILL", *self.command]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.directory)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "output").read_text()
            assert time.monotonic() < deadline, (self.directory / "output").read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5).close()
        except urllib.error.HTTPError as error:
            with error:
                # Not yet: it is still looking for its other parts.
                return error.code < 500
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kills the process, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def location(self, prefix: str | None = None) -> Location:
        """Returns a location that has nothing yet, or one with a given prefix."""
        if prefix is None:
            self.prefixes += 1
            prefix = f"{os.getpid()}/{self.prefixes}"
        return Location(f"s3://{_BUCKET}/{prefix}", self.endpoint)

    def backend(self) -> ObjectBackend:
        """Opens a new, empty backend."""
        return open_location(self.location())


@contextlib.contextmanager
def own_server(directory: Path) -> Iterator[ObjectServer]:
    """Runs a SeaweedFS of the test's own, which it may kill and start again."""
    directory.mkdir()
    os.environ.update(_CREDENTIALS)
    server = _seaweedfs(directory)
    server.start()
    try:
        yield server
    finally:
        server.kill()


_running: list[ObjectServer] = []


def object_server() -> ObjectServer:
    """Returns the session's SeaweedFS, started by the first caller; the environment has its credentials."""
    if not _running:
        _running.append(_seaweedfs(Path(tempfile.mkdtemp(prefix="vfs-object-server-"))))
        os.environ.update(_CREDENTIALS)
        _running[0].start()
    return _running[0]


def pytest_unconfigure() -> None:
    """Ends the session's server."""
    while _running:
        server = _running.pop()
        server.kill()
        shutil.rmtree(server.directory, ignore_errors=True)


def _seaweedfs(directory: Path) -> ObjectServer:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (directory / "data").mkdir()
    master, volume, filer, port = free_ports(4)
    command = [
        str(_PROGRAMS / "weed"), "server", f"-dir={directory / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", "-filer", f"-filer.port={filer}",
        "-s3", f"-s3.port={port}", "-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-volume.max=500", "-master.volumeSizeLimitMB=256", "-master.telemetry=false",
        # A server that is started again answers when this has passed: 10 s if nothing is said.
        "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms",
    ]  # fmt: skip
    return ObjectServer(port, directory, command)


@contextlib.contextmanager
def lying_server(directory: Path) -> Iterator[ObjectServer]:
    """Runs rclone's S3 server, which takes conditional writes and ignores their conditions."""
    (directory / "data" / _BUCKET).mkdir(parents=True)
    (port,) = free_ports(1)
    os.environ.update(_CREDENTIALS)
    command = [
        str(_PROGRAMS / "rclone"), "--config", os.devnull, "serve", "s3", str(directory / "data"),
        "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}",
    ]  # fmt: skip
    server = ObjectServer(port, directory, command)
    server.start()
    try:
        yield server
    finally:
        server.kill()
