"""Verdicts over four planted causes, and over noise."""

from __future__ import annotations

import random

import pytest

from vfs.repo.metric_effects import effects


def cells(means: list[list[float]], noise: float, count: int, chance: random.Random) -> list[list[list[float]]]:
    """Returns runs around four means, [code][data]."""
    return [[[chance.gauss(mean, noise) for _ in range(count)] for mean in row] for row in means]


PLANTED = [
    ("data", [[0.93, 0.87], [0.93, 0.87]]),
    ("code", [[0.93, 0.93], [0.87, 0.87]]),
    ("both", [[0.93, 0.88], [0.88, 0.83]]),
    ("interaction", [[0.93, 0.93], [0.93, 0.83]]),
]


@pytest.mark.parametrize(("blame", "means"), PLANTED)
@pytest.mark.parametrize("noise", [0.0, 0.003])
def test_the_planted_cause_is_blamed(blame: str, means: list[list[float]], noise: float) -> None:
    chance = random.Random(5)
    found: list[str] = [effects(cells(means, noise, 3, chance)).blame for _ in range(100)]
    assert found.count(blame) >= 98 if noise else found == [blame] * 100


def test_nothing_is_blamed_where_nothing_differs() -> None:
    assert effects([[[0.9, 0.9], [0.9, 0.9]], [[0.9, 0.9], [0.9, 0.9]]]).blame == "nothing"


@pytest.mark.parametrize(("_blame", "means"), PLANTED)
def test_noise_that_is_larger_than_the_effects_is_said(_blame: str, means: list[list[float]]) -> None:
    chance = random.Random(6)
    found = [effects(cells(means, 0.5, 3, chance)).blame for _ in range(200)]
    assert found.count("cannot tell") >= 190


def test_effects_are_means_over_the_other_side() -> None:
    found = effects([[[1.0, 1.0], [3.0, 3.0]], [[2.0, 2.0], [8.0, 8.0]]])
    assert (found.data, found.code, found.interaction) == (4.0, 3.0, 4.0)
