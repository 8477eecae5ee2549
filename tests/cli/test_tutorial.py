"""The tutorial is what happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.mount
@pytest.mark.slow
def test_every_command_of_the_tutorial_prints_what_stands_there() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "tutorial.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
