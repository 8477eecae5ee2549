"""What a run does: how much data, how often, which parts; and how long that will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers import Peer

PARTS = ("tree", "documents", "writing", "loading", "growth")
MODERATE = ("tree", "documents", "writing")
"""What is run without `--full`."""


@dataclass(frozen=True)
class Plan:
    """How much is measured, how often."""

    scale: float
    repetitions: int
    versions: int
    peers: Sequence[type[Peer]] = ()
    """Other people's programs that do the same work, in the parts `tree` and `documents`."""


QUICK = Plan(scale=0.02, repetitions=3, versions=3)
MIDDLE = Plan(scale=0.1, repetitions=3, versions=5)
FULL = Plan(scale=1.0, repetitions=3, versions=10)


@dataclass(frozen=True)
class Cost:
    """Seconds that something takes on a machine like that of docs/benchmarks.md, when nothing else runs on it."""

    fixed: float = 0.0
    scaled: float = 0.0
    """For all of the data."""
    repeated: float = 0.0
    """For each repetition, whatever the size."""
    repeated_scaled: float = 0.0

    def seconds(self, scale: float, repetitions: int) -> float:
        """Returns how long it takes."""
        each = self.repeated + self.repeated_scaled * scale
        return self.fixed + self.scaled * scale + repetitions * each


OURS: Mapping[str, Cost] = {
    "tree": Cost(fixed=10, scaled=60, repeated=20, repeated_scaled=40),
    "documents": Cost(fixed=2, scaled=60, repeated=5, repeated_scaled=20),
    "writing": Cost(fixed=20, repeated=80),
    "loading": Cost(fixed=10, scaled=60, repeated=60, repeated_scaled=60),
    "growth": Cost(fixed=60, scaled=500),
}
"""What each part takes without peers."""
THEIRS: Mapping[str, Cost] = {
    "borg": Cost(scaled=150, repeated=15),
    "restic": Cost(scaled=150, repeated=15),
    "bup": Cost(scaled=300, repeated=15),
    "squashfuse": Cost(scaled=150, repeated=5),
    "squashfs": Cost(scaled=100, repeated=5),
    "erofs": Cost(scaled=100, repeated=5),
    "git": Cost(fixed=2, scaled=200),
    "dvc": Cost(fixed=20, scaled=150),
    "oxen": Cost(fixed=10, scaled=150),
}
"""What each peer adds, nine tenths of it in the part `tree`."""
_IN_TREE = 0.9


def estimate(plan: Plan, parts: Sequence[str]) -> dict[str, float]:
    """Returns how many seconds each part will take, without installing what is missing."""
    found = {part: OURS[part].seconds(plan.scale, plan.repetitions) for part in parts}
    peers = sum(THEIRS[kind.name].seconds(plan.scale, plan.repetitions) for kind in plan.peers)
    for part, share in (("tree", _IN_TREE), ("documents", 1 - _IN_TREE)):
        if part in found:
            found[part] += share * peers
    return found


def minutes(plan: Plan, parts: Sequence[str]) -> int:
    """Returns the estimate of a whole run, rounded."""
    return round(sum(estimate(plan, parts).values()) / 60)
