"""The cost of one operation in a mount's daemon: requests of the kernel, system calls, processor time.

Requests come from the kernel's own tracepoint, system calls from strace, processor time from a run without either. So
the counts hold on a busy machine too, where times move.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine
from benchmarks.data import KIB, MIB, document
from benchmarks.layers import Layer, PassthroughLayer, WorkingLayer
from benchmarks.tables import shown, table

REPETITIONS = 9
OPERATIONS = 500
LARGE_OPERATIONS = 64
_TRACER_SECONDS_MAX = 10

Operation = Callable[[int], object]


@dataclass(frozen=True)
class Cost:
    """One kind of operation.

    `prepare` gets an empty directory, and where to say what is to be closed; it returns what is done with each number.
    """

    title: str
    prepare: Callable[[Path, ExitStack], Operation]
    operations: int = OPERATIONS


def _create(folder: Path, _: ExitStack) -> Operation:
    names = [os.fspath(folder / f"file{number}") for number in range(OPERATIONS)]
    data = document(1)

    def create(number: int) -> None:
        descriptor = os.open(names[number], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, data)
        os.close(descriptor)

    return create


def _made(folder: Path) -> list[str]:
    create = _create(folder, ExitStack())
    for number in range(OPERATIONS):
        create(number)
    return [os.fspath(folder / f"file{number}") for number in range(OPERATIONS)]


def _open(folder: Path, opened: ExitStack, flags: int = 0) -> int:
    descriptor = os.open(folder / "open", os.O_RDWR | os.O_CREAT | flags, 0o644)
    opened.callback(os.close, descriptor)
    return descriptor


def _append_of(size: int) -> Callable[[Path, ExitStack], Operation]:
    def prepare(folder: Path, opened: ExitStack) -> Operation:
        descriptor, data = _open(folder, opened, os.O_APPEND), os.urandom(size)
        return lambda _: os.write(descriptor, data)

    return prepare


def _overwrite(folder: Path, opened: ExitStack) -> Operation:
    descriptor, data = _open(folder, opened), os.urandom(4 * KIB)
    os.ftruncate(descriptor, OPERATIONS * 4 * KIB)
    return lambda number: os.pwrite(descriptor, data, number * 7919 % OPERATIONS * 4 * KIB)


def _append_synced(folder: Path, opened: ExitStack) -> Operation:
    append = _append_of(4 * KIB)(folder, opened)
    descriptor = _open(folder, opened)

    def synced(number: int) -> None:
        append(number)
        os.fsync(descriptor)

    return synced


def _append_seen(folder: Path, opened: ExitStack) -> Operation:
    append = _append_of(4 * KIB)(folder, opened)
    path = folder / "open"

    def seen(number: int) -> None:
        append(number)
        path.stat()

    return seen


def _append_read(folder: Path, opened: ExitStack) -> Operation:
    append = _append_seen(folder, opened)
    descriptor = _open(folder, opened)

    def read(number: int) -> None:
        append(number)
        os.pread(descriptor, 4 * KIB, number * 4 * KIB)

    return read


def _rename(folder: Path, _: ExitStack) -> Operation:
    names = _made(folder)
    return lambda number: os.rename(names[number], names[number] + ".new")


def _unlink(folder: Path, _: ExitStack) -> Operation:
    names = _made(folder)
    return lambda number: os.unlink(names[number])


def _change_mode(folder: Path, _: ExitStack) -> Operation:
    names = _made(folder)
    return lambda number: os.chmod(names[number], 0o600)


def _make_directory(folder: Path, _: ExitStack) -> Operation:
    return lambda number: (folder / f"directory{number}").mkdir()


def _open_again(folder: Path, _: ExitStack) -> Operation:
    names = _made(folder)
    return lambda number: os.close(os.open(names[number], os.O_RDONLY))


COSTS = (
    Cost("create, write 1 KB, close", _create),
    Cost("append 4 KB", _append_of(4 * KIB)),
    Cost("append 4 KB, stat", _append_seen),
    Cost("append 4 KB, stat, read back", _append_read),
    Cost("overwrite 4 KB", _overwrite),
    Cost("append 1 MiB", _append_of(MIB), LARGE_OPERATIONS),
    Cost("append 4 KB, fsync", _append_synced),
    Cost("open, close", _open_again),
    Cost("chmod", _change_mode),
    Cost("rename", _rename),
    Cost("unlink", _unlink),
    Cost("mkdir", _make_directory),
)


def measure(directory: Path) -> str:
    """Measures every operation in a new working layer and through the pass-through; returns a table."""
    with tempfile.TemporaryDirectory(prefix="costs-", dir=directory) as scratch_name:
        scratch = Path(scratch_name)
        base = scratch / "base"
        base.mkdir()
        (base / "file").write_bytes(b"base")
        layers: list[Layer] = [
            PassthroughLayer(base, scratch / "passed", scratch / "passthrough"),
            WorkingLayer(base, scratch / "repository", scratch / "mount"),
        ]
        try:
            for layer in layers:
                layer.refresh()
            rows = [_row(cost, layers) for cost in COSTS]
        finally:
            for layer in layers:
                layer.close()
    sides = [f"{what}, {layer.name}" for what in ("requests", "system calls", "CPU, us") for layer in layers]
    return table(["operation", *sides, "CPU, vfs / pass-through", "requests to vfs by type"], rows)


def _row(cost: Cost, layers: list[Layer]) -> list[str]:
    processor: dict[str, list[float]] = {layer.name: [] for layer in layers}
    for repetition in range(REPETITIONS):
        for layer in layers:
            processor[layer.name].append(_run(cost, layer, f"run{repetition}"))
    counted = [_counted(cost, layer) for layer in layers]
    # Other load on the machine can only add to processor time.
    least = [min(processor[layer.name]) for layer in layers]
    figures = [sum(requests.values()) / cost.operations for requests, _ in counted]
    figures += [sum(calls.values()) / cost.operations for _, calls in counted]
    figures += [*least, least[-1] / least[0]]
    return [cost.title, *map(shown, figures), _listed(counted[-1][0], cost.operations)]


def _run(cost: Cost, layer: Layer, name: str) -> float:
    """Returns the microseconds of the daemon's processor time that an operation takes."""
    daemon = layer.daemon()
    assert daemon is not None
    with _prepared(cost, layer, name) as operation:
        before = machine.processor_seconds(daemon)
        for number in range(cost.operations):
            operation(number)
        after = machine.processor_seconds(daemon)
    return (after - before) / cost.operations * 1e6


@contextmanager
def _prepared(cost: Cost, layer: Layer, name: str) -> Iterator[Operation]:
    folder = layer.working() / f"{cost.title.replace(' ', '-')}-{name}"
    folder.mkdir()
    with ExitStack() as opened:
        yield cost.prepare(folder, opened)


def _counted(cost: Cost, layer: Layer) -> tuple[Counter[str], Counter[str]]:
    """Returns the requests that reach a layer and the system calls of its daemon during all operations."""
    connection = os.minor(os.stat(layer.working()).st_dev)
    requests: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    daemon = layer.daemon()
    assert daemon is not None
    with (
        _prepared(cost, layer, "counted") as operation,
        _traced_requests(connection, requests),
        _traced_calls(daemon, calls),
    ):
        for number in range(cost.operations):
            operation(number)
    return requests, calls


@contextmanager
def _traced_requests(connection: int, requests: Counter[str]) -> Iterator[None]:
    """Counts the requests of one mount, by the kernel's names for them; the file system for it is mounted aside."""
    with tempfile.TemporaryDirectory(prefix="tracefs-") as mountpoint:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", mountpoint], check=True)
        own = Path(mountpoint, "instances", f"benchmark{os.getpid()}")
        try:
            own.mkdir()
            event = own / "events" / "fuse" / "fuse_request_send"
            (own / "buffer_size_kb").write_text("8192")
            (event / "filter").write_text(f"connection == {connection}")
            (event / "enable").write_text("1")
            try:
                yield
            finally:
                (event / "enable").write_text("0")
            requests.update(re.findall(r"opcode \d+ \(FUSE_(\w+)\)", (own / "trace").read_text(encoding="utf-8")))
        finally:
            own.rmdir()
            subprocess.run(["umount", mountpoint], check=True)


@contextmanager
def _traced_calls(pid: int, calls: Counter[str]) -> Iterator[None]:
    """Counts the system calls of a process, its children and all their threads."""
    processes = [pid, *machine.descendants(pid)]
    attached = [word for each in processes for word in ("-p", str(each))]
    with tempfile.NamedTemporaryFile(mode="r") as found:
        tracer = subprocess.Popen(
            ["strace", "-f", "-c", "-o", found.name, *attached], stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None
        for _ in processes:
            # It says so once it is attached to one.
            tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(_TRACER_SECONDS_MAX)
            tracer.stderr.close()
        for line in found:
            fields = line.split()
            if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
                calls[fields[-1]] += int(fields[3])


def _listed(requests: Counter[str], operations: int) -> str:
    """Returns the requests of an operation, without what comes now and then."""
    counts = {name: round(count / operations) for name, count in requests.items()}
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in sorted(counts.items()) if count)
