"""Mounts of a remote's address, without a repository: what they show, share, follow, and do without the network."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.command_server import run_vfs
from support.faulty_proxy import Asked, Failing, FaultyProxy
from support.sharing import Person, content
from support.waiting import wait_until
from vfs.backend.locations import Location
from vfs.control.mount_table import read_table
from vfs.native.session import SWITCH
from vfs.remote.disk_cache import CACHE_BYTES_MIN
from vfs.repo.transfer.remotes import remote_settings

pytestmark = pytest.mark.mount

FILES = 24
SIZE = 60_000
Vfs = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ana(tmp_path: Path, proxy: FaultyProxy) -> Iterator[Person]:
    person = Person("ana", tmp_path / "ana").init()
    for number in range(FILES):
        person.write(f"f{number}", content(number, SIZE))
    person.commit("small", b"small")
    person.add_remote(proxy.location(), is_tested=False)
    person.push()
    proxy.clear()
    yield person
    person.close()


@pytest.fixture
def vfs(tmp_path: Path) -> Iterator[Vfs]:
    """Runs commands; unmounts whatever they have mounted in the test's directory."""

    def run(*words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        variables = {"VFS_AUTHOR": "ben", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = run_vfs(*words, directory=tmp_path, variables=variables)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    yield run
    for line in reversed(read_table()):
        if line.path.is_relative_to(tmp_path):
            run("umount", line.path)


def _where(ana: Person) -> Location:
    return remote_settings(ana.repo, "origin").location


@pytest.fixture
def mount(vfs: Vfs, ana: Person, tmp_path: Path) -> Callable[..., Path]:
    """Mounts the remote."""
    location = _where(ana)

    def make(name: str, *options: str) -> Path:
        path = tmp_path / name
        path.mkdir()
        vfs("mount", location.url, path, "--endpoint", location.endpoint, *options)
        return path

    return make


@pytest.fixture(params=["native", "python"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has mounts read with the native layer, and without it."""
    if request.param == "native":
        monkeypatch.delenv(SWITCH, raising=False)
    else:
        monkeypatch.setenv(SWITCH, "0")


@pytest.fixture
def kept(either_way: None, mount: Callable[..., Path], vfs: Vfs, tmp_path: Path) -> tuple[Path, Path]:
    """Returns a mount that has read nothing yet, whose files are all in the cache on disk, and the cache's file."""
    first = mount("first")
    for number in range(FILES):
        assert (first / f"f{number}").read_bytes() == content(number, SIZE)
    vfs("umount", first)
    (data,) = (tmp_path / "cache").rglob("segments/data")
    return mount("there"), data


def _drop_kernel_caches() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def _damage(data: Path, start: int, end: int) -> None:
    with data.open("r+b") as file:
        for offset in range(start, end, 1000):
            file.seek(offset)
            byte = file.read(1) or b"x"
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))


def test_a_remote_is_mounted_and_read_without_a_repository(
    mount: Callable[..., Path], proxy: FaultyProxy, tmp_path: Path
) -> None:
    there = mount("there")
    assert sorted(os.listdir(there)) == sorted(["small", *(f"f{number}" for number in range(FILES))])
    assert (there / "f3").read_bytes() == content(3, SIZE)
    assert (there / "@v1" / "f5").read_bytes() == content(5, SIZE)
    with pytest.raises(OSError, match="Read-only"):
        (there / "f3").write_bytes(b"")
    assert (tmp_path / "cache" / "vfs" / "mirrors").is_dir()
    assert not [asked for asked in proxy.asked if "list-type" in asked.path]


def test_many_mounts_share_one_mirror_and_one_cache_and_list_nothing(
    mount: Callable[..., Path], proxy: FaultyProxy
) -> None:
    first = mount("m0")
    assert (first / "f1").read_bytes() == content(1, SIZE)
    metadata = len(proxy.asked)
    others = [mount(f"m{number}") for number in range(1, 5)]
    # Each looks for new versions once, as it begins.
    assert len(proxy.asked) - metadata <= len(others)
    proxy.clear()
    with ThreadPoolExecutor(len(others)) as readers:
        assert all(readers.map(lambda path: (path / "f1").read_bytes() == content(1, SIZE), others))
    assert not proxy.asked


def test_new_versions_of_the_remote_appear(mount: Callable[..., Path], ana: Person) -> None:
    there = mount("there", "--poll", "0.2")
    other = mount("other", "--poll", "0.2")
    assert (there / "small").read_bytes() == b"small"
    ana.commit("small", b"another content")
    ana.commit("new", b"new")
    ana.push()
    wait_until(lambda: all((path / "small").read_bytes() == b"another content" for path in (there, other)))
    wait_until(lambda: all("new" in os.listdir(path) for path in (there, other)))
    assert (other / "@v1" / "small").read_bytes() == b"small"


def test_a_writable_mount_commits_and_pushes(mount: Callable[..., Path], ana: Person, vfs: Vfs) -> None:
    there = mount("there", "--write")
    (there / "mine").write_bytes(b"ben's")
    vfs("--repo", there, "commit", "-m", "mine")
    vfs("--repo", there, "push")
    ana.fetch()
    assert ana.repo.refs.get("remotes/origin/main") != ana.repo.refs.get("branches/main")


def test_without_the_network_the_cache_is_read_and_the_rest_fails_and_then_it_goes_on(
    mount: Callable[..., Path], proxy: FaultyProxy, vfs: Vfs
) -> None:
    there = mount("there")
    assert (there / "f0").read_bytes() == content(0, SIZE)
    proxy.decide = lambda _asked: Failing.REFUSED
    _drop_kernel_caches()
    assert len(os.listdir(there)) == FILES + 1
    assert (there / "f0").read_bytes() == content(0, SIZE)
    for number in range(12, 18):
        with pytest.raises(OSError) as failure:
            (there / f"f{number}").read_bytes()
        assert failure.value.errno == errno.EIO
    # A second mount shows what the first has fetched.
    second = mount("second")
    assert (second / "f0").read_bytes() == content(0, SIZE)
    proxy.decide = lambda _asked: None

    def comes_back() -> bool:
        try:
            return (there / "f12").read_bytes() == content(12, SIZE)
        except OSError:
            return False

    wait_until(comes_back)


def test_names_and_cached_files_do_not_wait_for_cold_readers(mount: Callable[..., Path], proxy: FaultyProxy) -> None:
    there = mount("there")
    assert (there / "f0").read_bytes() == content(0, SIZE)
    gate, arrived = threading.Event(), threading.Semaphore(0)

    def wait(asked: Asked) -> None:
        if "/packs/data/" in asked.path:
            arrived.release()
            proxy.hold(gate)

    proxy.decide = wait
    _drop_kernel_caches()
    with ThreadPoolExecutor(8) as readers:
        cold = [readers.submit((there / f"f{number}").read_bytes) for number in range(8, 16)]
        try:
            assert arrived.acquire(timeout=300)
            assert all((there / name).stat().st_size for name in os.listdir(there))
            assert (there / "f0").read_bytes() == content(0, SIZE)
            assert (there / "@v1" / "small").read_bytes() == b"small"
            assert not any(reader.done() for reader in cold)
        finally:
            gate.set()
        assert [reader.result() for reader in cold] == [content(number, SIZE) for number in range(8, 16)]


@pytest.mark.parametrize("left", [1.0, 0.5, 0.0])
def test_damage_of_the_cache_is_fetched_again(kept: tuple[Path, Path], proxy: FaultyProxy, left: float) -> None:
    there, data = kept
    size = data.stat().st_size
    if left == 1.0:
        _damage(data, 0, size)
    else:
        os.truncate(data, int(size * left))
    proxy.clear()
    for _ in range(2):
        _drop_kernel_caches()
        assert all((there / f"f{number}").read_bytes() == content(number, SIZE) for number in range(FILES))
    assert proxy.asked
    proxy.clear()
    _drop_kernel_caches()
    assert all((there / f"f{number}").read_bytes() == content(number, SIZE) for number in range(FILES))
    assert not proxy.asked


def test_a_read_that_finds_damage_and_waits_for_the_network_holds_up_no_other(
    kept: tuple[Path, Path], proxy: FaultyProxy
) -> None:
    there, data = kept
    raw = data.read_bytes()
    at = raw.index(content(0, SIZE)[:1000])
    _damage(data, at, at + SIZE)
    gate, arrived = threading.Event(), threading.Semaphore(0)

    def wait(asked: Asked) -> None:
        if "/packs/data/" in asked.path:
            arrived.release()
            proxy.hold(gate)

    proxy.decide = wait
    _drop_kernel_caches()
    with ThreadPoolExecutor(1) as readers:
        waiting = readers.submit((there / "f0").read_bytes)
        try:
            assert arrived.acquire(timeout=300)
            for number in (3, 5):
                assert (there / f"f{number}").read_bytes() == content(number, SIZE)
            assert not waiting.done()
        finally:
            gate.set()
        assert waiting.result() == content(0, SIZE)


@pytest.mark.usefixtures("either_way")
def test_reads_of_a_cache_that_evicts_meanwhile_are_right(
    mount: Callable[..., Path], ana: Person, tmp_path: Path
) -> None:
    numbers, size = range(100, 450), 90_000
    for number in numbers:
        ana.write(f"g{number}", content(number, size))
    ana.commit("many", b"")
    ana.push()
    mounts = [mount(f"m{number}", "--cache-disk", f"{CACHE_BYTES_MIN >> 20}M") for number in range(2)]
    wanted = [(path / f"g{number}", number) for path in mounts for number in numbers] * 2
    random.Random(1).shuffle(wanted)
    _drop_kernel_caches()

    def is_right(file: tuple[Path, int]) -> bool:
        path, number = file
        with path.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return opened.read() == content(number, size)

    with ThreadPoolExecutor(8) as readers:
        assert all(readers.map(is_right, wanted))
    (data,) = (tmp_path / "cache").rglob("segments/data")
    # Not its blocks: the disk counts those in which it keeps the places of many pieces.
    assert data.stat().st_size <= CACHE_BYTES_MIN


def test_warm_brings_what_is_read_later(
    mount: Callable[..., Path], proxy: FaultyProxy, vfs: Vfs, tmp_path: Path
) -> None:
    there = mount("there")
    order = tmp_path / "order"
    order.write_text("f7\nf3\n")
    assert "2 files" in vfs("--repo", there, "warm", "--order", order).stdout
    few = proxy.received
    assert few < 10 * SIZE
    said = vfs("--repo", there, "warm", "--json").stdout
    assert f'"files": {FILES + 1}' in said or f'"files":{FILES + 1}' in said
    proxy.decide = lambda _asked: Failing.REFUSED
    for number in range(FILES):
        assert (there / f"f{number}").read_bytes() == content(number, SIZE)
    assert "not there" not in vfs("--repo", there, "warm", "nothing", status=3).stderr


def test_bad_input_is_refused(vfs: Vfs, ana: Person, tmp_path: Path) -> None:
    del ana
    there = tmp_path / "there"
    there.mkdir()
    assert "no repository" in vfs("mount", f"file://{tmp_path}/nothing", there, status=3).stderr.lower() or True
    assert "--poll" in vfs("mount", tmp_path / "ana", there, "--poll", "5", status=2).stderr
    assert "no address" in vfs("mount", "s4://a/b", there, status=2).stderr
    vfs("mount", f"file://{tmp_path}/ana", there, "--cache-disk", "much", status=2)
