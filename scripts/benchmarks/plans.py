"""What a run does: how much data, how often, which parts; and how long that will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers import Peer

PARTS = ("tree", "documents", "writing", "loading", "page", "provenance", "remotes", "growth")
IN_FULL = tuple(part for part in PARTS if part not in {"provenance", "remotes"})
"""The plan with `--full`. The parts about runs and remotes are run by their names."""
MODERATE = ("tree", "documents", "writing")
"""The plan without `--full`."""


@dataclass(frozen=True)
class Plan:
    """How much is measured, how often."""

    scale: float
    repetitions: int
    versions: int
    peers: Sequence[type[Peer]] = ()
    """Other people's programs that do the same work, in the parts `tree` and `documents`."""


QUICK = Plan(scale=0.02, repetitions=2, versions=3)
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
    full_at: float = 1.0
    """From this scale on there is no more to do."""

    def seconds(self, scale: float, repetitions: int) -> float:
        """Returns how long it takes."""
        part = min(1.0, scale / self.full_at)
        return self.fixed + self.scaled * part + repetitions * (self.repeated + self.repeated_scaled * part)


OURS: Mapping[str, Cost] = {
    "tree": Cost(fixed=15, scaled=75, repeated=26, repeated_scaled=80),
    "documents": Cost(fixed=2, scaled=15, repeated=6, repeated_scaled=45),
    "writing": Cost(fixed=15, repeated=12, repeated_scaled=73, full_at=0.1),
    "loading": Cost(fixed=10, scaled=50, repeated=60, repeated_scaled=95),
    "page": Cost(fixed=10, scaled=60, repeated=20, repeated_scaled=20),
    "provenance": Cost(fixed=30, scaled=300, repeated=15, full_at=0.1),
    "remotes": Cost(fixed=150, scaled=3600),
    "growth": Cost(fixed=80, scaled=500),
}
"""What each part takes without peers."""
THEIRS: Mapping[str, Cost] = {
    "borg": Cost(fixed=25, scaled=145),
    "restic": Cost(fixed=35, scaled=165),
    "bup": Cost(fixed=40, scaled=330),
    "squashfuse": Cost(fixed=12, scaled=75),
    "squashfs": Cost(fixed=10, scaled=65),
    "erofs": Cost(fixed=10, scaled=75),
    "git": Cost(fixed=10, scaled=140),
    "dvc": Cost(fixed=15, scaled=120),
    "oxen": Cost(fixed=15, scaled=100),
}
"""What each peer adds, whatever the repetitions; most of it in the part `tree`."""
_IN_TREE = 0.85


def estimate(plan: Plan, parts: Sequence[str]) -> dict[str, float]:
    """Returns how many seconds each part will take, without installing anything."""
    found = {part: OURS[part].seconds(plan.scale, plan.repetitions) for part in parts}
    peers = sum(THEIRS[kind.name].seconds(plan.scale, plan.repetitions) for kind in plan.peers)
    for part, share in (("tree", _IN_TREE), ("documents", 1 - _IN_TREE)):
        if part in found:
            found[part] += share * peers
    return found


def minutes(plan: Plan, parts: Sequence[str]) -> int:
    """Returns the estimate of a whole run, rounded."""
    return round(sum(estimate(plan, parts).values()) / 60)
