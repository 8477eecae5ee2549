"""Goal: an export says which times the target could not hold; it gives the nearest one and no error."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import Run, commands_on

pytestmark = pytest.mark.mount

LATE_NS = 10_413_792_000 * 10**9
"""2300-01-01, which an inode of 128 bytes does not reach."""
FINE_NS = 1_767_225_600_123_456_789


@pytest.fixture
def old_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 whose times are whole seconds up to the year 2038."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-I", "128", image], check=True, capture_output=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """v1 has times that any filesystem holds, v2 one of 2300, v3 fractions of seconds as well."""
    call = commands_on(tmp_path / "repo", capsys, monkeypatch)
    source = tmp_path / "source"
    source.mkdir()
    for name, time_ns in (("plain", 10**18), ("late", LATE_NS), ("fine", FINE_NS)):
        (source / name).write_text(name)
        os.utime(source / name, ns=(time_ns, time_ns))
        if name == "fine":
            (source / "link").symlink_to("fine")
            os.utime(source / "link", ns=(LATE_NS, LATE_NS), follow_symlinks=False)
        os.utime(source, ns=(10**18, 10**18))
        call("import", str(source), "-m", name)
    return call


def test_times_that_the_target_cannot_hold_are_losses(run: Run, old_disk: Path, tmp_path: Path) -> None:
    run("export", "v1", str(old_disk / "one"))
    done = json.loads(run("export", "v2", str(old_disk / "two"), "--json", status=1))
    (loss,) = done["losses"]
    assert (loss["path"], loss["what"]) == ("late", "the modification time")
    assert "2038-01-19 is the nearest" in loss["why"]
    done = json.loads(run("export", "v3", str(old_disk / "three"), "--json", status=1))
    assert {(each["path"], each["what"]) for each in done["losses"]} == {
        ("late", "the modification time"),
        ("link", "the modification time"),
        ("fine", "the exact modification time"),
    }
    assert (old_disk / "three" / "late").read_text() == "late"
    run("export", "v3", str(tmp_path / "here"))
    assert (tmp_path / "here" / "late").stat().st_mtime_ns == LATE_NS
