"""Damages repositories in thousands of ways and checks the reports: no fault may stay silent.

As a program: `python -m support.damage ROUNDS [--seed S]`.

Each round takes a scene (support/damage_scenes.py), changes one of its files as disks, copies and people change files,
checks the repository, and then reads everything and commits. The results are compared with those of the undamaged
repository. Rounds run in a process of their own, so that one that dies is counted as well.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from support.damage_scenes import (
    Look,
    Scene,
    ask,
    build_scenes,
    copy_repository,
    look_at_layer,
    look_at_versions,
    opened,
    words,
)
from support.damaging import Damage, apply_damage, chosen_damage, kind_of
from vfs.api.hints import notice_text
from vfs.errors import VfsError
from vfs.repo.fsck import fsck
from vfs.repo.import_directory import import_directory
from vfs.repo.repository import Repository

BAD = ("silent", "fsck-blind", "traceback", "died")
"""Bad outcomes: wrong content without any error; the same, and fsck reports no damage; a traceback; a dead process."""
_REBUILT = "made it again from"
_BRANCHES = ("main", "exp")


class Finding(NamedTuple):
    """The outcome of a damage, and the evidence in words."""

    damage: Damage
    outcome: str
    evidence: str


@dataclass
class Seen:
    """All that was shown of a repository: by fsck, by its opening, and to readers."""

    fsck: list[str] = field(default_factory=list)
    is_clean: bool = True
    notices: list[str] = field(default_factory=list)
    look: Look = field(default_factory=dict)


# Looking.


def see(scene: Scene, root: Path, damage: Callable[[], bool] | None) -> Seen | None:
    """Damages a repository and looks at all of it; None where the damage changed nothing."""
    seen = Seen()
    if scene.is_live:
        with opened(root) as repo, repo.open_overlay() as overlay:
            if damage is not None and not damage():
                return None
            _run_fsck(repo, seen)
            look_at_layer(repo, "main", overlay, seen.look)
            # What a mount shows of its journal is not checked, as on any local filesystem; versions are.
            seen.look = {name: seen.look[name] for name in ("merge of main", "commit of main")}
        return seen
    if damage is not None and not damage():
        return None
    try:
        with opened(root) as repo:
            seen.notices += [notice_text(*notice) for notice in repo.notices]
            _run_fsck(repo, seen)
    except (VfsError, OSError) as error:
        seen.fsck.append(words(error))
        seen.is_clean = False
    try:
        with opened(root) as repo:
            seen.notices += [notice_text(*notice) for notice in repo.notices]
            look_at_versions(repo, seen.look)
            for branch in _BRANCHES:
                _look_at_branch(repo, branch, seen)
            if scene.source.is_dir():
                ask(seen.look, "import", lambda: _import(repo, scene.source))
        with opened(root) as repo:
            ask(seen.look, "again", lambda: [version.name for version in repo.history("main")])
    except (VfsError, OSError) as error:
        seen.look["opening"] = words(error)
    return seen


def _run_fsck(repo: Repository, seen: Seen) -> None:
    report = fsck(repo, read_data=True)
    seen.fsck += [
        f"{notice_text(each.reason, each.hint)} {each.path!r} {each.versions}" for each in report.damage
    ] + report.notes
    seen.is_clean = report.is_clean


def _look_at_branch(repo: Repository, branch: str, seen: Seen) -> None:
    try:
        overlay = repo.open_overlay(branch)
    except (VfsError, OSError) as error:
        seen.look[f"opening of {branch}"] = words(error)
        return
    try:
        seen.notices += overlay.recovery.warnings()
        look_at_layer(repo, branch, overlay, seen.look)
    finally:
        overlay.close()


def _import(repo: Repository, source: Path) -> object:
    with repo.open_overlay("imported") as overlay:
        root = import_directory(repo, source, "again", "c", overlay=overlay, jobs=1, allow_empty=True)
        return root.version.commit.root


# Judging.


def judge(damage: Damage, before: Seen, after: Seen) -> Finding:
    """Returns the outcome of a damage: `after` was seen of the damaged repository, `before` of the undamaged one.

    Wrong content of a subject needs an error about that subject, or a notice. The bytes of a version are never wrong.
    """
    usual = {_without_counts(notice) for notice in before.notices}
    noticed = [notice for notice in after.notices if _without_counts(notice) not in usual]
    by_fsck = [line for line in after.fsck if line not in before.fsck]
    errors: list[str] = []
    wrong: list[str] = []
    silent: list[str] = []
    is_noticed = any(_REBUILT not in notice for notice in noticed) or "opening" in after.look
    for names in _by_subject(before.look.keys() | after.look.keys()).values():
        wrong_here: list[str] = []
        errors_here: list[str] = []
        for name in sorted(names):
            _compare(name, before.look.get(name), after.look.get(name), errors_here, wrong_here)
        if not (errors_here or is_noticed):
            silent += wrong_here
        silent += [line for line in wrong_here if line.startswith("files of") and not _is_presence(line)]
        errors += errors_here
        wrong += wrong_here
    evidence = f"wrong: {silent[:4] or wrong[:4]}; errors: {errors[:3]}; notices: {noticed[:3]}; fsck: {by_fsck[:3]}"
    if silent:
        return Finding(damage, "silent", evidence)
    if (wrong or errors) and not by_fsck and after.is_clean == before.is_clean and not noticed:
        return Finding(damage, "harmless" if _is_asked_again(damage, errors) else "fsck-blind", evidence)
    if noticed or by_fsck or errors:
        return Finding(damage, "reported", evidence)
    return Finding(damage, "harmless", evidence)


def _without_counts(notice: str) -> str:
    """Leaves out how many records were recovered: their number says nothing about what is missing."""
    return re.sub(r"recovered [\d,]+ records", "recovered records", notice)


def _is_presence(line: str) -> bool:
    """Returns True if a difference is an addition or a removal, as for changed refs."""
    return line.endswith(" became None") or ": None became " in line


def _by_subject(names: Iterable[str]) -> dict[str, list[str]]:
    """Divides answers by what they are about: a working layer, or everything that is committed."""
    found: dict[str, list[str]] = {}
    for name in names:
        subject = next((f"layer {branch}" for branch in _BRANCHES if name.endswith(f" of {branch}")), "versions")
        if name.startswith("history"):
            subject = "versions"
        if name in ("again", "import"):
            # What became of the commits before.
            subject = "layer main" if name == "again" else "layer imported"
        found.setdefault(subject, []).append(name)
    return found


def _is_asked_again(damage: Damage, errors: list[str]) -> bool:
    """Returns True if an older, valid state of a merge was restored: later decisions are asked for again."""
    is_older = damage.how in ("bring back an older state", "copy another over it") and damage.path.endswith("/merge")
    return is_older and all(error.startswith("early commit") and "UnresolvedConflicts" in error for error in errors)


def _compare(name: str, old: object, new: object, errors: list[str], wrong: list[str]) -> None:
    """Adds where two answers differ: a new error is a report, any other difference is wrong."""
    if old == new:
        return
    if isinstance(new, str) and new.startswith("error: "):
        errors.append(f"{name}: {new}")
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys(), key=repr):
            _compare(f"{name} {key!r}", old.get(key), new.get(key), errors, wrong)
    elif isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for at, (left, right) in enumerate(zip(old, new, strict=True)):
            _compare(f"{name}[{at}]", left, right, errors, wrong)
    else:
        wrong.append(f"{name}: {str(old)[:80]} became {str(new)[:80]}")


# Running.


class Driver:
    """Scenes below a directory, and what the whole ones show."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.scenes = list(build_scenes(directory))
        self._whole: dict[tuple[int, bool], Seen] = {}

    def round(self, damage: Damage) -> Finding | None:
        """Does one damage; None where it changed nothing."""
        scene = self.scenes[damage.scene]
        before = self._seen_whole(damage)
        root = self._directory / "damaged"
        try:
            after = self._see(damage, root, lambda: apply_damage(scene, damage, root))
        except Exception:  # noqa: BLE001 - whatever shows to a user is what we look for
            return Finding(damage, "traceback", traceback.format_exc(limit=-6))
        return None if after is None else judge(damage, before, after)

    def _seen_whole(self, damage: Damage) -> Seen:
        key = damage.scene, damage.keeps_index
        if key not in self._whole:
            seen = self._see(damage, self._directory / "whole", None)
            assert seen is not None
            assert seen.is_clean, (self.scenes[damage.scene].name, seen.fsck)
            self._whole[key] = seen
        return self._whole[key]

    def _see(self, damage: Damage, root: Path, work: Callable[[], bool] | None) -> Seen | None:
        shutil.rmtree(root, ignore_errors=True)
        copy_repository(self.scenes[damage.scene].path, root)
        if not damage.keeps_index:
            shutil.rmtree(root / "index")
        return see(self.scenes[damage.scene], root, work)

    def apart(self, damages: Sequence[Damage]) -> list[Finding]:
        """Does damages in a process of its own, and in another one what is left where one dies of a damage."""
        found: list[Finding] = []
        at = 0
        while at < len(damages):
            done = self._in_child(damages[at:])
            found += [finding for finding in done if finding is not None]
            at += len(done)
            if at < len(damages):
                found.append(Finding(damages[at], "died", "the process ended"))
                at += 1
        return found

    def _in_child(self, damages: Sequence[Damage]) -> list[Finding | None]:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(reader)
                with os.fdopen(writer, "wb") as out:
                    for damage in damages:
                        pickle.dump(self.round(damage), out)
                        out.flush()
                status = 0
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(status)
        os.close(writer)
        done: list[Finding | None] = []
        with os.fdopen(reader, "rb") as answers:
            while True:
                try:
                    done.append(pickle.load(answers))  # noqa: S301 - our own child wrote it
                except EOFError:
                    break
        os.waitpid(child, 0)
        return done


@dataclass
class Tally:
    """What became of many damages."""

    outcomes: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Counts one."""
        self.outcomes[finding.outcome] += 1
        self.by_kind[kind_of(finding.damage.path), finding.outcome] += 1
        if finding.outcome in BAD:
            self.bad.append(finding)

    def __str__(self) -> str:
        return ", ".join(f"{self.outcomes[name]} {name}" for name in ("reported", "harmless", *BAD))


def rounds(driver: Driver, numbers: range, seed: int, tally: Tally) -> None:
    """Does rounds of damage, each chosen by its number and the seed alone."""
    for finding in driver.apart([chosen_damage(driver.scenes, number, seed) for number in numbers]):
        tally.add(finding)


def _words(finding: Finding, scene: Scene) -> str:
    damage = finding.damage
    index = "" if damage.keeps_index else ", without its index"
    what = f"{finding.outcome}: {scene.name}{index}: {damage.how}: {damage.path} (seed {damage.seed})"
    return "\n  ".join([what, *finding.evidence.splitlines()]) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Runs rounds; 1 if anything was bad."""
    parser = argparse.ArgumentParser(prog="damage-rounds", description=__doc__)
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, metavar="ROUND", help="Begin with this round.")
    wanted = parser.parse_args(arguments)
    tally = Tally()
    begin = time.monotonic()
    # In memory where it can be: what is damaged is files, not a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vfs-damage-", dir=memory) as directory:
        driver = Driver(Path(directory))
        for first in range(wanted.first, wanted.first + wanted.rounds, 250):
            known = len(tally.bad)
            rounds(driver, range(first, min(first + 250, wanted.first + wanted.rounds)), wanted.seed, tally)
            for finding in tally.bad[known:]:
                sys.stdout.write(_words(finding, driver.scenes[finding.damage.scene]))
            spent = time.monotonic() - begin
            sys.stdout.write(f"{sum(tally.outcomes.values())} damages, {spent:.0f} s: {tally}\n")
            sys.stdout.flush()
    for (kind, outcome), count in sorted(tally.by_kind.items()):
        sys.stdout.write(f"  {kind}: {count} {outcome}\n")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
