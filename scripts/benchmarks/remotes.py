"""The part `remotes`: one object server, and what programs do with it: push, push a change, push nothing, clone, read.

All go through a proxy that counts requests and bytes and adds a round trip. Its throughput bounds all of them alike.
Oxen speaks to its own server alone, so it is not here.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import data, machine
from benchmarks.bench import MB, PEER_FAILURES, Bench, first_line
from benchmarks.peers import ENVIRONMENT, Dvc, Restic, run
from benchmarks.report import Row
from benchmarks.subjects import MOUNT_TIMEOUT_S, PROGRAM, is_mounted, remove_tree, unmount
from support.faulty_proxy import FaultyProxy, faulty_proxy
from support.object_server import KEY, SECRET, own_server

PART = "remotes"
ROUND_TRIPS_S = (0.0, 0.03)
READERS = 8
BATCH = 32
BUCKET = "bench"


class LacksStep(Exception):
    """A program has nothing of the kind."""


class Sharer:
    """One program that keeps a directory of data at a remote. Without a method's work, the row stays empty for it."""

    name = "vfs"

    def __init__(self, place: Path, source: Path, endpoint: str, prefix: str) -> None:
        self.place, self.source, self.endpoint, self.prefix = place, source, endpoint, prefix
        self.mountpoint = place / "mount"
        self.process: subprocess.Popen[bytes] | None = None
        place.mkdir(parents=True)
        self.mountpoint.mkdir()

    def environment(self) -> Mapping[str, str]:
        """Returns what its program finds the server with."""
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "HOME": str(self.place)}

    def run(self, *words: object, directory: Path | None = None) -> str:
        """Runs a program."""
        return run(words, directory=directory, environment=self.environment())

    def prepare(self) -> None:
        """Makes what a first push needs; not measured."""
        repo = self.place / "repository"
        self.run(PROGRAM, "init", repo)
        url = f"s3://{BUCKET}/{self.prefix}"
        self.run(PROGRAM, "--repo", repo, "remote", "add", "origin", url, "--endpoint", self.endpoint)

    def save(self) -> None:
        """Saves the source where it is, if that is a step of its own; not measured."""
        self.run(PROGRAM, "--repo", self.place / "repository", "import", self.source, "-m", "bench")

    def push(self) -> None:
        """Sends what was saved."""
        self.run(PROGRAM, "--repo", self.place / "repository", "push")

    def clone(self, where: Path) -> None:
        """Copies all contents to another directory."""
        url = f"s3://{BUCKET}/{self.prefix}"
        self.run(PROGRAM, "clone", url, where, "--all", "--endpoint", self.endpoint)

    def clone_lazily(self, where: Path) -> None:
        """Makes a copy whose contents come when they are read."""
        self._require_vfs()
        self.run(PROGRAM, "clone", f"s3://{BUCKET}/{self.prefix}", where, "--endpoint", self.endpoint)

    def mount_local(self) -> Path:
        """Mounts the repository that was pushed, and returns where its newest data are."""
        self._require_vfs()
        self.run(PROGRAM, "mount", "--read-only", self.place / "repository", self.mountpoint)
        return self.mountpoint

    def _require_vfs(self) -> None:
        if type(self) is not Sharer:
            raise LacksStep(f"{self.name} has nothing of the kind")

    def mount(self) -> Path:
        """Mounts the remote, and returns where its newest data are."""
        url = f"s3://{BUCKET}/{self.prefix}"
        self.run(PROGRAM, "mount", url, self.mountpoint, "--endpoint", self.endpoint, "--cache-dir", self.place / "c")
        return self.mountpoint

    def unmount(self) -> None:
        """Ends the mount."""
        unmount(self.mountpoint)
        if self.process is not None:
            # Some go on after their mount has ended.
            self.process.terminate()
            try:
                self.process.wait(MOUNT_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def serve(self, *words: object) -> Path:
        """Starts a program that serves a mount in the foreground."""
        environment = {**os.environ, **self.environment()}
        self.process = subprocess.Popen(
            [str(word) for word in words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + MOUNT_TIMEOUT_S
        while not is_mounted(self.mountpoint):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{words[0]} does not mount")
            time.sleep(0.01)
        return self.mountpoint


class ResticRemote(Sharer):
    """restic: backup finds changes and sends them in one step."""

    name = "restic"

    def environment(self) -> Mapping[str, str]:
        cache = str(self.place / "cache")
        return {**super().environment(), "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": cache}

    @property
    def _repository(self) -> str:
        return f"s3:{self.endpoint}/{BUCKET}/{self.prefix}"

    def prepare(self) -> None:
        self.run("restic", "-r", self._repository, "init", "--repository-version", "2")

    def save(self) -> None:
        return

    def push(self) -> None:
        self.run("restic", "-r", self._repository, "backup", "--quiet", ".", directory=self.source)

    def clone(self, where: Path) -> None:
        self.run("restic", "-r", self._repository, "restore", "latest", "--target", where)

    def mount(self) -> Path:
        shutil.rmtree(self.place / "cache", ignore_errors=True)
        self.serve("restic", "-r", self._repository, "mount", self.mountpoint)
        return (self.mountpoint / "snapshots" / "latest").resolve()


class DvcRemote(Sharer):
    """DVC with its S3 plugin."""

    name = "dvc"

    def environment(self) -> Mapping[str, str]:
        path = f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}"
        site = str(self.place / "site")
        return {**super().environment(), "PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": site}

    def _dvc(self, *words: object, directory: Path) -> None:
        self.run(ENVIRONMENT / "bin" / "dvc", *words, directory=directory)

    def prepare(self) -> None:
        repo = self.place / "repository"
        repo.mkdir()
        self.run("git", "init", "--quiet", directory=repo)
        self._dvc("init", "--quiet", directory=repo)
        self._dvc("remote", "add", "-d", "origin", f"s3://{BUCKET}/{self.prefix}", directory=repo)
        self._dvc("remote", "modify", "origin", "endpointurl", self.endpoint, directory=repo)

    def save(self) -> None:
        repo = self.place / "repository"
        shutil.rmtree(repo / "images", ignore_errors=True)
        shutil.copytree(self.source / "images", repo / "images")
        self._dvc("add", "--quiet", "images", directory=repo)

    def push(self) -> None:
        self._dvc("push", "--quiet", directory=self.place / "repository")

    def clone(self, where: Path) -> None:
        ignore = shutil.ignore_patterns("cache", "images", "tmp")
        shutil.copytree(self.place / "repository", where, ignore=ignore)
        self._dvc("pull", "--quiet", directory=where)

    def mount(self) -> Path:
        raise LacksStep("it checks files out")


class RcloneRemote(Sharer):
    """rclone: files as they are, the raw floor; no versions."""

    name = "rclone"

    def environment(self) -> Mapping[str, str]:
        found = {
            "TYPE": "s3", "PROVIDER": "SeaweedFS", "ENDPOINT": self.endpoint, "ACCESS_KEY_ID": KEY,
            "SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip
        return {**super().environment(), **{f"RCLONE_CONFIG_BENCH_{name}": value for name, value in found.items()}}

    def _rclone(self, *words: object) -> None:
        self.run(PROGRAM.with_name("rclone"), "--config", os.devnull, "--transfers", "16", *words)

    def prepare(self) -> None:
        return

    def save(self) -> None:
        return

    def push(self) -> None:
        self._rclone("sync", self.source, f"bench:{BUCKET}/{self.prefix}")

    def clone(self, where: Path) -> None:
        self._rclone("copy", f"bench:{BUCKET}/{self.prefix}", where)

    def mount(self) -> Path:
        cache = self.place / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        return self.serve(
            PROGRAM.with_name("rclone"), "--config", os.devnull, "mount", f"bench:{BUCKET}/{self.prefix}",
            self.mountpoint, "--vfs-cache-mode", "full", "--cache-dir", cache,
        )  # fmt: skip


class RemotesPart:
    """20,000 images at scale 1."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._place = bench.scratch / PART
        self._left = ExitStack()
        self._place.mkdir()

    def run(self) -> None:
        """Measures all programs at each round trip, one after the other."""
        bench = self._bench
        bench.say("starting SeaweedFS")
        kinds: list[type[Sharer]] = [Sharer, RcloneRemote]
        kinds += [kind for kind, peer in ((ResticRemote, Restic), (DvcRemote, Dvc)) if peer in bench.plan.peers]
        server = self._left.enter_context(own_server(self._place / "server"))
        source = self._place / "source"
        for number in range(bench.sizes.image_directories):
            (source / "images" / f"class{number:03d}").mkdir(parents=True)
        for round_trip_s in ROUND_TRIPS_S:
            for index in range(bench.sizes.images):
                (source / data.image_path(index, bench.sizes)).write_bytes(data.image(index))
            with faulty_proxy(server, round_trip_s=round_trip_s) as proxy:
                made = [self._made(kind, source, proxy, round_trip_s) for kind in kinds]
                self._measure(made, source, proxy, f"{round_trip_s * 1000:.0f} ms")

    def _made(self, kind: type[Sharer], source: Path, proxy: FaultyProxy, round_trip_s: float) -> Sharer:
        name = f"{kind.name}-{round_trip_s * 1000:.0f}"
        sharer = kind(self._place / name, source, f"http://127.0.0.1:{proxy.port}", name)
        self._left.callback(sharer.unmount)
        return sharer

    def _measure(self, made: Sequence[Sharer], source: Path, proxy: FaultyProxy, trip: str) -> None:
        bench = self._bench
        step = _Steps(bench, proxy, trip)
        for sharer in made:
            step.untimed(sharer, sharer.prepare)
            step.untimed(sharer, sharer.save)
        for sharer in made:
            step.timed(sharer, "push", "first push", sharer.push)
        for index in range(0, bench.sizes.images, 100):
            (source / data.image_path(index, bench.sizes)).write_bytes(data.image(1_000_000 + index))
        for sharer in made:
            step.untimed(sharer, sharer.save)
            step.timed(sharer, "change", "push of a 1 % change", sharer.push)
            step.timed(sharer, "nothing", "push of nothing", sharer.push)
        for sharer in made:
            for name, title, clone in (
                ("clone", "clone with all contents", sharer.clone),
                ("lazy", "clone without contents", sharer.clone_lazily),
            ):
                where = sharer.place / name
                step.timed(sharer, name, title, partial(clone, where))
                remove_tree(where)
        for sharer in made:
            self._read(step, sharer)

    def _read(self, step: _Steps, sharer: Sharer) -> None:
        sizes = self._bench.sizes
        order = list(range(sizes.images))
        random.Random(1).shuffle(order)
        roots: list[Path] = []

        def read(numbers: Sequence[int]) -> None:
            with ThreadPoolExecutor(READERS) as readers:
                for _ in readers.map(lambda index: (roots[0] / data.image_path(index, sizes)).read_bytes(), numbers):
                    pass

        def first() -> None:
            roots.append(sharer.mount())
            read(order[:BATCH])

        machine.drop_caches()
        try:
            if step.timed(sharer, "batch", f"mount to the first {BATCH} images", first):
                step.timed(sharer, "cold", "shuffled epoch, cold", lambda: read(order))
                machine.drop_caches()
                step.timed(sharer, "warm", "shuffled epoch, from the disk cache", lambda: read(order))
        finally:
            sharer.unmount()
        roots.clear()
        machine.drop_caches()
        try:
            if step.untimed(sharer, lambda: roots.append(sharer.mount_local())):
                step.timed(sharer, "local", "shuffled epoch, cold, of the repository here", lambda: read(order))
        finally:
            sharer.unmount()

    def close(self) -> None:
        """Ends mounts and the server, and removes everything."""
        self._left.callback(remove_tree, self._place)
        self._left.close()


class _Steps:
    """Measures steps of programs, and goes on without those that fail."""

    def __init__(self, bench: Bench, proxy: FaultyProxy, trip: str) -> None:
        self._bench, self._proxy, self._trip = bench, proxy, trip
        self._failed: set[Sharer] = set()

    def untimed(self, sharer: Sharer, work: Callable[[], None]) -> bool:
        """Does what is not measured."""
        if sharer in self._failed:
            return False
        try:
            work()
        except LacksStep:
            return False
        except PEER_FAILURES as error:
            self._failed.add(sharer)
            self._bench.note(f"{sharer.name} at {self._trip}: {first_line(error)}")
            if type(sharer) is Sharer:
                raise
            return False
        return True

    def timed(self, sharer: Sharer, name: str, title: str, work: Callable[[], None]) -> bool:
        """Does a step and keeps its time, requests and bytes; returns False where it is not done."""
        self._bench.say(f"{sharer.name}: {title}, {self._trip}")
        self._proxy.clear()
        started = time.monotonic()
        if not self.untimed(sharer, work):
            return False
        seconds = time.monotonic() - started
        with self._proxy.lock:
            requests = len(self._proxy.asked)
            size = sum(asked.sent for asked in self._proxy.asked) + self._proxy.received
        for suffix, unit, value in (("", "s", seconds), ("requests", "requests", requests), ("bytes", "MB", size / MB)):
            row = Row(f"remote-{name}-{suffix}-{self._trip}", f"{title}, {self._trip}", unit)
            self._bench.add(row, {sharer.name: [value]}, PART)
        return True
