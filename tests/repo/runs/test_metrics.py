"""Metrics and parameters in all the forms in which programs write them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vfs.errors import InvalidInput
from vfs.repo.runs.metrics import options_of, read_document, read_lines, read_params
from vfs.run_log import log


def test_lines_of_pairs_and_json() -> None:
    last, series = read_lines(
        b"accuracy=0.5 step=1\nnot a metric\n"
        b'{"accuracy": 0.93, "val": {"loss": 1}}\nacc: 3, n=nan\n\xff\xfe\n{"a": [1]}\n{'
    )
    assert last == {"accuracy": 0.93, "val.loss": 1.0, "acc": 3.0, "n": "nan"}
    assert json.loads(series.splitlines()[0]) == {"accuracy": 0.5, "step": 1.0}


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"{" * 1000, b"a=" * 1000, b"\0" * 1000, b'{"a":1e999}'])
def test_ill_formed_metrics_do_no_harm(data: bytes) -> None:
    last, _ = read_lines(data)
    assert isinstance(last, dict)


def test_documents_as_dvc_writes_them() -> None:
    assert read_document(b'{"train": {"acc": 0.9, "n": 3}, "name": "x"}', "m.json") == {
        "train.acc": 0.9,
        "train.n": 3.0,
    }
    with pytest.raises(InvalidInput, match=r"m\.json"):
        read_document(b"acc: 1", "m.json")


def test_options_are_parameters() -> None:
    assert options_of(["python", "t.py", "--lr", "0.1", "--seed=3", "--shuffle", "--offset", "-5", "-v", "x"]) == {
        "lr": "0.1",
        "seed": "3",
        "shuffle": "true",
        "offset": "-5",
    }


def test_scalars_of_params_yaml() -> None:
    text = "# comment\nlr: 0.1\ntrain:\n  epochs: 3 # few\n  opt:\n    name: 'adam'\nlist:\n  - 1\n  - 2\nafter: yes\n"
    assert read_params(text) == {"lr": "0.1", "train.epochs": "3", "train.opt.name": "adam", "after": "yes"}


def test_log_appends_within_a_run_and_does_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VFS_METRICS", raising=False)
    log(accuracy=1)
    path = tmp_path / "metrics"
    monkeypatch.setenv("VFS_METRICS", str(path))
    log(accuracy=0.93, step=3)
    log(loss=float("nan"))
    last, _ = read_lines(path.read_bytes())
    assert last == {"accuracy": 0.93, "loss": "nan"}
    monkeypatch.setenv("VFS_METRICS", str(tmp_path / "no/such/directory"))
    log(accuracy=1)


def test_log_imports_nothing_of_the_program() -> None:
    code = "import sys; from vfs.run_log import log; print([n for n in sys.modules if n[:4] in ('vfs.', 'msgs')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['vfs.run_log']"
