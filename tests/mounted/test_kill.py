"""A daemon killed at random moments under real work loses nothing; scripts/crash-rounds does hundreds of rounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.killing import kill_rounds

pytestmark = [pytest.mark.mount, pytest.mark.slow]

ROUNDS = int(os.environ.get("VFS_KILL_ROUNDS", "8"))
SEED = int(os.environ.get("VFS_KILL_SEED", "1"))


def test_a_daemon_killed_at_random_moments_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    tally = kill_rounds(tmp_path, ROUNDS, SEED)
    assert tally.rounds == ROUNDS
