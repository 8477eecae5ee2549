"""Alternative programs at the same work: saving versions, and showing or fetching an old one.

A peer saves a source tree as it is. Some show what they have saved as a mount (borg, restic, bup, squashfs, erofs) and
are subjects of the reading workloads. The others check out (git, DVC, Oxen): a user waits for that before reading
plain files. Programs are the distribution's packages and, for DVC and Oxen, locked packages in an environment of their
own, both installed on demand by scripts/bench.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.subjects import MOUNT_TIMEOUT_S, copy_tree, is_mounted, remove_tree, unmount

ENVIRONMENT = Path(sys.prefix) / "bench-peers"
"""Where DVC and Oxen are installed."""
PEER_TIMEOUT_S, INSTALL_TIMEOUT_S = 600, 3600
"""How long one command may take, and the installation of a program."""


def run(
    command: Sequence[object],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = PEER_TIMEOUT_S,
) -> str:
    """Runs a peer's program and returns what it prints; raises RuntimeError with its words where it fails."""
    words = [str(word) for word in command]
    finished = subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if finished.returncode:
        raise RuntimeError(f"{' '.join(words)} exited with {finished.returncode}:\n{finished.stderr}{finished.stdout}")
    return finished.stdout


class Peer(ABC):
    """One program with a repository of its own below `place`, and a `source` that it saves.

    The source is a copy of the first version where it is to be changed, or where the repository is to be inside.
    """

    name: str
    packages: Sequence[str] = ()
    """Debian packages that it needs."""

    inside = False
    """The repository is in its source."""

    def __init__(self, place: Path, first: Path, *, changing: bool) -> None:
        self.killed = False
        self.place = place
        self.repository = place / "repository"
        self.source = first
        place.mkdir(parents=True)
        if changing or self.inside:
            self.source = place / "source"
            copy_tree(first, self.source)

    @abstractmethod
    def save(self, version: int) -> None:
        """Keeps the source as a version; the first call makes the repository."""

    def stored_bytes(self) -> int:
        """Returns the disk space of all that was saved, without the source."""
        return machine.stored_bytes(self.repository)

    def kill(self) -> None:
        """Ends the process that serves the peer's mount, so that callers blocked on it fail."""
        return

    def drop_source(self) -> None:
        """Removes the source, if it is the peer's own: versions are saved."""
        remove_tree(self.place / "source")

    def discard(self) -> None:
        """Removes everything."""
        remove_tree(self.place)


class MountPeer(Peer):
    """A peer that shows versions in a mount. As a subject of workloads it shows version 1."""

    def __init__(self, place: Path, first: Path, *, changing: bool) -> None:
        super().__init__(place, first, changing=changing)
        self.mountpoint = place / "mount"
        self.mountpoint.mkdir()
        self.mount_seconds: list[float] = []
        self.peak_bytes = 0
        self.failed = False
        """True if it did not mount: it is not tried again."""
        self._daemon: subprocess.Popen[bytes] | None = None
        self._memory: machine.MemoryWatch | None = None

    def show(self, version: int) -> Path:
        """Returns where a later version can be read beside the first, once that is mounted."""
        return self.version_path(version)

    @abstractmethod
    def command(self) -> Sequence[object]:
        """Returns the command that makes the mount, and serves it in the foreground where the kernel does not."""

    @abstractmethod
    def version_path(self, version: int) -> Path:
        """Returns where a version is in the mount."""

    def environment(self) -> dict[str, str]:
        """Returns what the program wants to find in its environment."""
        return {}

    def refresh(self) -> None:
        """Mounts anew with nothing cached."""
        self.close()
        machine.drop_caches()
        self.killed, self.failed = False, True
        started = time.perf_counter()
        self.mount()
        self.mount_seconds.append(time.perf_counter() - started)
        self.failed = False
        if self._daemon is not None:
            self._memory = machine.MemoryWatch(self._daemon.pid)

    def mount(self) -> None:
        """Mounts, and returns when version 1 can be listed."""
        self._daemon = subprocess.Popen(
            [str(word) for word in self.command()],
            env={**os.environ, **self.environment()},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + MOUNT_TIMEOUT_S
        while not (is_mounted(self.mountpoint) and os.listdir(self.version_path(1))):
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not mount")
            time.sleep(0.005)

    def tree(self) -> Path:
        return self.version_path(1)

    def working(self) -> Path:
        raise RuntimeError(f"{self.name} has nothing to write to")

    def close(self) -> None:
        if self._memory is not None:
            self.peak_bytes = max(self.peak_bytes, self._memory.stop())
            self._memory = None
        if self._daemon is None:
            return
        if is_mounted(self.mountpoint):
            unmount(self.mountpoint)
        try:
            self._daemon.wait(5)
        except subprocess.TimeoutExpired:
            self._daemon.send_signal(signal.SIGINT)
            self._daemon.wait(MOUNT_TIMEOUT_S)
        self._daemon = None

    def kill(self) -> None:
        if self._daemon is not None:
            self.killed = True
            self._daemon.kill()

    def discard(self) -> None:
        self.close()
        super().discard()


class Borg(MountPeer):
    """BorgBackup: content-defined chunks, zstd, FUSE in Python."""

    name = "borg"
    packages = ("borgbackup", "python3-pyfuse3")

    def environment(self) -> dict[str, str]:
        return {"BORG_BASE_DIR": str(self.place / "home"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def save(self, version: int) -> None:
        if version == 1:
            run(["borg", "init", "--encryption", "none", self.repository], environment=self.environment())
        command = ["borg", "create", "--compression", "zstd,1", f"{self.repository}::v{version}", "."]
        run(command, directory=self.source, environment=self.environment())

    def command(self) -> Sequence[object]:
        return ["borg", "mount", "--foreground", self.repository, self.mountpoint]

    def version_path(self, version: int) -> Path:
        return self.mountpoint / f"v{version}"


class Restic(MountPeer):
    """restic: content-defined chunks, zstd, FUSE in Go. Versions are found by their tags."""

    name = "restic"
    packages = ("restic", "fuse3")

    def environment(self) -> dict[str, str]:
        return {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": str(self.place / "cache")}

    def save(self, version: int) -> None:
        if version == 1:
            command = ["restic", "-r", self.repository, "init", "--repository-version", "2"]
            run(command, environment=self.environment())
        command = ["restic", "-r", self.repository, "backup", "--quiet", "--tag", f"v{version}", "."]
        run(command, directory=self.source, environment=self.environment())

    def command(self) -> Sequence[object]:
        return ["restic", "-r", self.repository, "mount", self.mountpoint]

    def version_path(self, version: int) -> Path:
        # `latest` is a link, which `find` would not follow.
        return (self.mountpoint / "tags" / f"v{version}" / "latest").resolve()


class Bup(MountPeer):
    """bup: content-defined chunks in git packs, zlib, FUSE in Python."""

    name = "bup"
    packages = ("bup", "python3-fuse")

    def environment(self) -> dict[str, str]:
        return {"BUP_DIR": str(self.repository)}

    def save(self, version: int) -> None:
        if version == 1:
            run(["bup", "init"], environment=self.environment())
        run(["bup", "index", self.source], environment=self.environment())
        command = ["bup", "save", "--quiet", "--compress=1", "--strip", "--name", f"v{version}", self.source]
        run(command, environment=self.environment())

    def command(self) -> Sequence[object]:
        return ["bup", "fuse", "--foreground", self.mountpoint]

    def version_path(self, version: int) -> Path:
        return (self.mountpoint / f"v{version}" / "latest").resolve()


class Image(MountPeer):
    """A filesystem image for each version, which share nothing."""

    kind: str
    """The kernel's name of the filesystem."""

    def __init__(self, place: Path, first: Path, *, changing: bool) -> None:
        super().__init__(place, first, changing=changing)
        self._others: list[Path] = []

    def image(self, version: int) -> Path:
        """Returns where a version's image is."""
        return self.repository / f"v{version}.img"

    def version_path(self, version: int) -> Path:
        return self.mountpoint

    def show(self, version: int) -> Path:
        path = self.place / f"mount-v{version}"
        path.mkdir(exist_ok=True)
        run(self.other_command(self.image(version), path))
        self._others.append(path)
        return path

    def other_command(self, image: Path, mountpoint: Path) -> Sequence[object]:
        """Returns the command that mounts another image, and leaves it mounted."""
        return ["mount", "-t", self.kind, "-o", "loop,ro", image, mountpoint]

    def close(self) -> None:
        while self._others:
            run(["umount", self._others.pop()])
        super().close()

    def save(self, version: int) -> None:
        self.repository.mkdir(exist_ok=True)
        self.make(self.image(version))

    @abstractmethod
    def make(self, image: Path) -> None:
        """Writes the source into an image."""


class SquashFuse(Image):
    """squashfs, served by squashfuse."""

    name = "squashfuse"
    kind = "squashfs"
    packages = ("squashfuse", "squashfs-tools")

    def make(self, image: Path) -> None:
        options = ["-comp", "zstd", "-Xcompression-level", "1", "-quiet", "-no-progress", "-noappend"]
        run(["mksquashfs", self.source, image, *options])

    def command(self) -> Sequence[object]:
        return ["squashfuse", "-f", self.image(1), self.mountpoint]

    def other_command(self, image: Path, mountpoint: Path) -> Sequence[object]:
        return ["squashfuse", image, mountpoint]


class KernelImage(Image):
    """An image that the kernel mounts."""

    def command(self) -> Sequence[object]:
        return ["mount", "-t", self.kind, "-o", "loop,ro", self.image(1), self.mountpoint]

    def mount(self) -> None:
        run(self.command())

    def close(self) -> None:
        super().close()
        if is_mounted(self.mountpoint):
            run(["umount", self.mountpoint])


class SquashFs(KernelImage):
    """squashfs, served by the kernel."""

    name = "squashfs"
    kind = "squashfs"
    packages = ("squashfs-tools",)
    make = SquashFuse.make


class Erofs(KernelImage):
    """erofs with lz4."""

    name = "erofs"
    kind = "erofs"
    packages = ("erofs-utils",)

    def make(self, image: Path) -> None:
        run(["mkfs.erofs", "--quiet", "-zlz4", image, self.source])


class CheckoutPeer(Peer):
    """A peer whose repository is in the directory that it keeps versions of, and that restores them into it."""

    inside = True
    kept: str
    """The folder of the working directory that holds all versions."""

    def __init__(self, place: Path, first: Path, *, changing: bool) -> None:
        super().__init__(place, first, changing=changing)
        self.repository = self.source

    def stored_bytes(self) -> int:
        return machine.stored_bytes(self.repository / self.kept)

    def folders(self) -> list[str]:
        """Returns the names of the folders that are to be saved."""
        return sorted(path.name for path in self.source.iterdir() if path.is_dir() and path.name[0] != ".")

    @abstractmethod
    def checkout(self, version: int) -> None:
        """Restores a version."""


_GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0")


class Git(CheckoutPeer):
    """git."""

    name = "git"
    packages = ("git",)
    kept = ".git"

    def save(self, version: int) -> None:
        if version == 1:
            run([*_GIT, "init", "--quiet"], directory=self.repository)
        run([*_GIT, "add", "--all"], directory=self.repository)
        run([*_GIT, "commit", "--quiet", "--message", f"v{version}"], directory=self.repository)
        run([*_GIT, "tag", f"v{version}"], directory=self.repository)

    def checkout(self, version: int) -> None:
        run([*_GIT, "checkout", "--quiet", f"v{version}"], directory=self.repository)


class Dvc(CheckoutPeer):
    """DVC beside git, with its default: reflinks where the filesystem has them, else copies."""

    name = "dvc"
    packages = ("git",)
    kept = ".dvc"

    def _dvc(self, *words: str) -> None:
        environment = {
            "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.place / "cache"),
            "HOME": str(self.place),
        }
        run([ENVIRONMENT / "bin" / "dvc", *words], directory=self.repository, environment=environment)

    def save(self, version: int) -> None:
        if version == 1:
            run([*_GIT, "init", "--quiet"], directory=self.repository)
            self._dvc("init", "--quiet")
        self._dvc("add", "--quiet", *self.folders())
        run([*_GIT, "add", "--all"], directory=self.repository)
        run([*_GIT, "commit", "--quiet", "--message", f"v{version}"], directory=self.repository)
        run([*_GIT, "tag", f"v{version}"], directory=self.repository)

    def checkout(self, version: int) -> None:
        run([*_GIT, "checkout", "--quiet", f"v{version}"], directory=self.repository)
        self._dvc("checkout", "--quiet")


_OXEN = """
import sys
import oxen
folder, deed, name, *words = sys.argv[1:]
oxen.user.config_user("bench", "bench@localhost")
repo = oxen.Repo(folder)
if deed == "init":
    repo.init()
elif deed == "save":
    for word in words:
        repo.add(word)
    repo.commit(name)
    # Only branches can be checked out by name.
    repo.checkout(name, create=True)
else:
    repo.checkout(name)
"""


class Oxen(CheckoutPeer):
    """Oxen, through its Python package."""

    name = "oxen"
    kept = ".oxen"

    def _oxen(self, *words: str) -> None:
        command = [ENVIRONMENT / "bin" / "python", "-c", _OXEN, self.repository, *words]
        run(command, environment={"HOME": str(self.place)})

    def save(self, version: int) -> None:
        if version == 1:
            self._oxen("init", "")
        self._oxen("save", f"v{version}", *self.folders())

    def checkout(self, version: int) -> None:
        self._oxen("checkout", f"v{version}")


MOUNTING: tuple[type[MountPeer], ...] = (Borg, Restic, Bup, SquashFuse, SquashFs, Erofs)
CHECKING_OUT: tuple[type[CheckoutPeer], ...] = (Git, Dvc, Oxen)
ALL: dict[str, type[Peer]] = {kind.name: kind for kind in (*MOUNTING, *CHECKING_OUT)}


def install(kinds: Sequence[type[Peer]], say: Callable[[str], None], lack: Callable[[str], None]) -> list[type[Peer]]:
    """Installs what peers need and the machine lacks, as root with apt-get and pip; returns those that are there then.

    `lack` is told of each other one, and why.
    """
    found = []
    for kind in kinds:
        try:
            _install(kind, say)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            lack(f"{kind.name} could not be installed: {error}"[:300])
        else:
            found.append(kind)
    return found


def _install(kind: type[Peer], say: Callable[[str], None]) -> None:
    wanted = [package for package in kind.packages if not _is_installed(package)]
    if wanted:
        say(f"installing {', '.join(wanted)}")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], environment=quiet)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted], environment=quiet)
    if kind in (Dvc, Oxen) and not (ENVIRONMENT / "complete").exists():
        say("installing DVC and Oxen")
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        run([sys.executable, "-m", "venv", ENVIRONMENT])
        lock = Path(__file__).resolve().parents[1] / "requirements" / "peers.lock"
        pip = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        run([*pip, "--require-hashes", "-r", lock], timeout_s=INSTALL_TIMEOUT_S)
        (ENVIRONMENT / "complete").touch()


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"
