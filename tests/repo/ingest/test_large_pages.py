"""Memory of an import, in a process of its own: the heap may have large pages and keeps what is freed."""

import ctypes
import subprocess
import sys

import pytest

from vfs.repo.ingest.large_pages import use_large_pages

PROBE = """
import re, resource
from pathlib import Path
from vfs.repo.ingest.large_pages import use_large_pages

use_large_pages()
mappings = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
large = [each for each in mappings if "[heap]" in each and re.search("VmFlags:.* hg", each)]
print(sum(int(re.search(r"Size: +(\\d+)", each)[1]) for each in large))
bytearray(4 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    bytearray(4 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_the_heap_has_large_pages_and_keeps_what_is_freed() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    large_kib, faults = map(int, done.stdout.split())
    assert large_kib > 100 * 1024
    # As the C library comes, each of the 50 has 1,024.
    assert faults < 3000


def test_with_another_c_library_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    use_large_pages()
