"""Pushers beside each other, and sweeps; scripts/remote-rounds does the same with ten of them and a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.remote_pushing import run_round


def test_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    done = run_round(tmp_path, people=2, commits=4, kills=0, seed=1)
    assert done.acknowledged == 8
    assert done.sweeps > 0


@pytest.mark.slow
def test_what_was_acknowledged_is_there_though_the_server_is_killed(tmp_path: Path) -> None:
    done = run_round(tmp_path, people=2, commits=6, kills=2, seed=2)
    assert done.acknowledged == 12
