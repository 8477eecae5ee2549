"""Metrics in the files into which programs write them, and `vfs.log`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vfs
from vfs.model.reported_metrics import METRICS_BYTES_MAX
from vfs.repo.runs.metric_files import read_metrics, recorded


def test_the_last_values_and_all_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(
        b"accuracy=0.5 step=1\nnot a metric\n"
        b'{"accuracy": 0.93, "val": {"loss": 1}}\nacc: 3, n=nan\n\xff\xfe\n{"a": [1]}\n{'
    )
    found = read_metrics(path)
    assert recorded(found) == {"accuracy": 0.93, "val.loss": 1.0, "acc": 3.0, "n": "nan"}
    lines = [json.loads(line) for line in found.lines().splitlines()]
    assert lines[0] == {"accuracy": 0.5, "step": 1}
    assert lines[1] == {"accuracy": 0.93, "val.loss": 1.0, "acc": 3.0, "n": "nan"}


def test_the_end_of_a_long_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with path.open("wb") as file:
        file.write(b"early=1\n")
        file.truncate(METRICS_BYTES_MAX + 100)
        file.seek(0, os.SEEK_END)
        file.write(b"\nlate=2\n")
    assert read_metrics(path).last == {"late": 2.0}


def test_what_a_program_put_in_the_place_of_the_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a=1")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "absent", "."):
        with pytest.raises(OSError, match=r"."):
            read_metrics(tmp_path / name)


def test_log_appends_within_a_run_and_does_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VFS_METRICS", raising=False)
    vfs.log(accuracy=1)
    path = tmp_path / "metrics"
    monkeypatch.setenv("VFS_METRICS", str(path))
    vfs.log(accuracy=0.93, step=3)
    vfs.log(loss=float("nan"))
    assert recorded(read_metrics(path)) == {"accuracy": 0.93, "loss": "nan"}
    monkeypatch.setenv("VFS_METRICS", str(tmp_path / "no/such/directory"))
    vfs.log(accuracy=1)


def test_log_imports_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import vfs; vfs.log(accuracy=1);"
        "print(sorted(set(sys.modules) - before - {'os', '__future__'}))"
    )
    variables = {name: value for name, value in os.environ.items() if name != "VFS_METRICS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables, cwd=tmp_path
    )
    assert done.stdout.strip() == "['vfs', 'vfs.metric_logging']"
