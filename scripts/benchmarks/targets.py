"""The project's targets, compared with the figures of a run: multiples, so that a slow machine does not decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.peers import CHECKING_OUT, MOUNTING
from benchmarks.tables import shown

OWN = "vfs"
READ_ONLY = "vfs, read-only"
EXT4 = ("ext4",)
FLOOR = ("empty",)
PASSTHROUGH = ("pass-through",)
MOUNTS = tuple(kind.name for kind in MOUNTING)
PEERS = (*MOUNTS, *(kind.name for kind in CHECKING_OUT))
SMALL_SCALE = 0.5
"""Below this scale a target's `small` bound is the one that counts."""


class Measured(Protocol):
    """The median of a workload on a subject; a Figure of the report."""

    @property
    def workload(self) -> str:
        """The key of the table row."""
        ...

    @property
    def subject(self) -> str:
        """The column."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """True if larger figures are better."""
        ...

    @property
    def part(self) -> str:
        """The part of the run."""
        ...

    @property
    def median(self) -> float:
        """The figure."""
        ...


@dataclass(frozen=True)
class Target:
    """A bound for a workload as a multiple of the best of other subjects' figures in the same run.

    Where larger figures are better the multiple has to reach the bound. Durations and sizes must not exceed it, unless
    `as_speed`: then the multiple is that of the speeds.
    """

    title: str
    workload: str
    bound: float
    beside: tuple[str, ...]
    subject: str = OWN
    part: str = "reading"
    as_speed: bool = False
    small: float | None = None
    """The bound for less than half of the data, where that is another one."""


@dataclass(frozen=True)
class Outcome:
    """How a target was met."""

    title: str
    target: str
    reached: str
    met: bool


TARGETS = (
    Target("images warm, read-only mount", "images-warm", 0.9, EXT4, READ_ONLY),
    Target("images warm", "images-warm", 0.4, EXT4),
    Target(
        "grep -r over small files, second time, read-only mount",
        "documents-grep-warm",
        0.9,
        EXT4,
        READ_ONLY,
        as_speed=True,
    ),
    Target("walk warm, read-only mount", "walk-warm", 0.9, EXT4, READ_ONLY, as_speed=True),
    Target("walk warm", "walk-warm", 0.6, EXT4, as_speed=True),
    Target("walk of small files, warm, read-only mount", "documents-walk-warm", 0.9, EXT4, READ_ONLY, as_speed=True),
    Target("walk of small files, warm", "documents-walk-warm", 0.6, EXT4, as_speed=True),
    Target("walk cold", "walk-cold", 0.4, EXT4, as_speed=True),
    Target("walk of small files, cold", "documents-walk-cold", 0.45, EXT4, as_speed=True),
    Target("images in random order, cold", "images-cold", 0.6, EXT4),
    Target("images in random order, cold", "images-cold", 1.2, MOUNTS),
    Target("images in directory order, cold", "images-ordered-cold", 1.2, EXT4),
    Target("one 1 KB file, cold", "document-cold", 1.2, FLOOR),
    Target("sequential read, cold", "sequential-cold", 0.7, EXT4),
    Target("sequential read, cold", "sequential-cold", 1.1, ("erofs",)),
    Target("random 4 KB reads, cold", "random-cold", 1, MOUNTS),
    Target("PyTorch, first epoch, read-only mount", "train-0", 0.7, EXT4, READ_ONLY, "loading"),
    Target("PyTorch, second epoch, read-only mount", "train-1", 0.9, EXT4, READ_ONLY, "loading"),
    Target("8 readers at once", "readers-cold", 0.8, EXT4),
    Target("directory listing beside 8 readers", "readers-listing", 2, FLOOR),
    Target("first version", "first-version", 1, EXT4, small=2),
    Target("later version by import", "later-import", 1, PEERS),
    Target("stored after all versions", "stored-all", 1, ("borg", "restic")),
    Target("stored per later version", "stored-each", 1, ("borg", "restic")),
    Target("small files stored", "small-files-first-version-stored", 1, ("squashfs",)),
    Target("diff -rq of the first and the newest version", "diff", 0.15, EXT4),
    Target("diff -rq of two adjacent versions", "diff-neighbours", 0.15, EXT4),
    Target("create of 1 KB files, working layer", "create", 2.5, PASSTHROUGH, part="writing"),
    Target("tar -x, working layer", "untar", 2.3, PASSTHROUGH, part="writing"),
    Target("cp -r, working layer", "copy", 3.5, PASSTHROUGH, part="writing"),
    Target("SQLite, rollback journal, working layer", "sqlite-rollback", 1, PASSTHROUGH, part="writing"),
    Target("SQLite, write-ahead log, working layer", "sqlite-wal", 1.2, PASSTHROUGH, part="writing"),
)


def outcomes(figures: Sequence[Measured], scale: float = 1, targets: Sequence[Target] = TARGETS) -> list[Outcome]:
    """Returns how each target was met at a scale; those whose figures are missing are left out."""
    judged = (
        _judge(
            target, [each for each in figures if (each.workload, each.part) == (target.workload, target.part)], scale
        )
        for target in targets
    )
    return [outcome for outcome in judged if outcome is not None]


def _judge(target: Target, figures: Sequence[Measured], scale: float) -> Outcome | None:
    own = next((figure for figure in figures if figure.subject == target.subject), None)
    others = [figure.median for figure in figures if figure.subject in target.beside]
    if own is None or not own.median or not others:
        return None
    at_least = own.higher_is_better or target.as_speed
    value = own.median / (max(others) if own.higher_is_better else min(others))
    if target.as_speed and not own.higher_is_better:
        value = 1 / value
    bound = target.bound if target.small is None or scale >= SMALL_SCALE else target.small
    met = value >= bound if at_least else value <= bound
    names = "best peer" if len(target.beside) > 2 else " or ".join(target.beside)
    return Outcome(target.title, f"{'≥' if at_least else '≤'} {bound:,g} x {names}", f"{shown(value)} x {names}", met)
