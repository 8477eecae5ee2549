"""The requests of the kernel that reach a mount's daemon, as strace sees them."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import wait_until

LOOKUP, GETATTR, OPEN, READ, RELEASE, OPENDIR, RELEASEDIR, READDIRPLUS = 1, 3, 14, 15, 18, 27, 29, 44

_READ = re.compile(rb'read\(\d+, "((?:\\x[0-9a-f]{2}){8})"\.\.\., \d+\) = \d+')
"""A message of the kernel is longer than 8 bytes; its opcode is in the second four."""


@contextmanager
def counted_requests(process: int, words: Path) -> Iterator[Counter[int]]:
    """Counts the requests that a daemon reads within the block, by opcode; the counter is filled at its end.

    `words` is a file for strace's output.
    """
    command = ["strace", "-f", "-qq", "-xx", "-s", "8", "-e", "trace=read", "-o", str(words), "-p", str(process)]
    counter: Counter[int] = Counter()
    with subprocess.Popen(command) as tracer:
        wait_until(lambda: _is_traced(process))
        try:
            yield counter
        finally:
            tracer.send_signal(signal.SIGTERM)
            tracer.wait()
    for found in _READ.finditer(words.read_bytes()):
        message = bytes.fromhex(found[1].replace(b"\\x", b"").decode("ascii"))
        counter[int.from_bytes(message[4:8], "little")] += 1


def _is_traced(process: int) -> bool:
    statuses = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/status")]
    return all("TracerPid:\t0\n" not in status for status in statuses)
