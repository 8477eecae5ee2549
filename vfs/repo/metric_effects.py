"""Whether the data or the code changed a metric: the verdict over old and new data with old and new code.

Each of the four cells has several runs; their spread is the noise. The effect of the data is the mean difference over
both codes, that of the code over both data; the interaction is how much the one's effect differs with the other. An
effect counts if it is larger than noise makes in 99 of 100 such experiments without one (Student's t).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

Blame = Literal["data", "code", "both", "interaction", "cannot tell", "nothing"]
Cells = Sequence[Sequence[Sequence[float]]]
"""[code][data]: the values of the runs; the older first."""

_MINOR = 0.1
"""An effect smaller than this share of the largest one is not called a cause beside it."""
_ROUNDING = 1e-9
_T = ((4, 4.604), (8, 3.355), (12, 3.055), (16, 2.921), (20, 2.845), (28, 2.763), (40, 2.704), (60, 2.660))
"""(degrees of freedom, the value that |t| exceeds in 1 of 100 cases), the next lower entry counts."""
_T_MANY = 2.660


class Effects(NamedTuple):
    """The verdict. Effects are changes of the metric, from old to new; `noise`: what an effect must exceed.

    `spread`: the standard deviation of single runs. `is_real`: which of (data, code, interaction) exceed the noise.
    """

    blame: Blame
    data: float
    code: float
    interaction: float
    noise: float
    spread: float
    is_real: tuple[bool, bool, bool]


def effects(cells: Cells) -> Effects:
    """Judges four cells, each with the same number of runs, two at least; values are finite."""
    means = [[statistics.fmean(runs) for runs in row] for row in cells]
    (old_old, old_new), (new_old, new_new) = means
    data = ((old_new - old_old) + (new_new - new_old)) / 2
    code = ((new_old - old_old) + (new_new - old_new)) / 2
    interaction = (new_new - new_old) - (old_new - old_old)
    count = len(cells[0][0])
    spread = math.sqrt(statistics.fmean(statistics.variance(runs) for row in cells for runs in row))
    freedom = 4 * (count - 1)
    bound = next((value for least, value in reversed(_T) if freedom >= least), _T_MANY)
    rounding = _ROUNDING * max(abs(value) for row in means for value in row)
    noise = max(bound * spread / math.sqrt(count), rounding)
    real = abs(data) > noise, abs(code) > noise, abs(interaction) > 2 * noise
    blame = _blame(data, code, interaction, real)
    if blame == "nothing" and spread > rounding:
        blame = "cannot tell"
    return Effects(blame, data, code, interaction, noise, spread, real)


def _blame(data: float, code: float, interaction: float, real: tuple[bool, bool, bool]) -> Blame:
    largest = max(abs(data), abs(code))
    if real[2] and abs(interaction) >= largest:
        return "interaction"
    causes = [is_real and abs(effect) >= _MINOR * largest for is_real, effect in zip(real, (data, code), strict=False)]
    if all(causes):
        return "both"
    if causes[0]:
        return "data"
    return "code" if causes[1] else "nothing"
