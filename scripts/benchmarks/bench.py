"""State that the parts of a run share (plan, scratch directory, report), and the measurement of a workload."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.data import Sizes
from benchmarks.peers import MountPeer, Peer
from benchmarks.plans import Plan
from benchmarks.progress import Progress
from benchmarks.report import READING, Figure, Report, Row
from benchmarks.subjects import Subject
from benchmarks.workloads import Workload

MB = 1e6
PEER_REPETITIONS = 2
REPEATED_WITHIN_S = 10.0
"""The time limit for repetitions of a peer's workload: medians of slow ones are not worth the wait."""
PEER_SECONDS_MAX = 45.0
"""The time limit for one run of a workload on a peer's mount, which is ended then."""
PEER_FAILURES = (OSError, RuntimeError, subprocess.SubprocessError)


class Part(Protocol):
    """One part of a run, made for it with a Bench."""

    def run(self) -> None:
        """Makes data, measures, and keeps the figures."""
        ...

    def close(self) -> None:
        """Unmounts and removes everything."""
        ...


@dataclass
class Bench:
    """One run."""

    plan: Plan
    scratch: Path
    report: Report
    progress: Progress

    @property
    def sizes(self) -> Sizes:
        """How much data there is."""
        return Sizes.scaled(self.plan.scale)

    def say(self, words: str) -> None:
        """Prints what begins."""
        self.progress.say(words)

    def note(self, words: str) -> None:
        """Records a gap in the report, and prints it."""
        self.report.notes.append(words)
        self.progress.say(words)

    def add(self, row: Row, values: Mapping[str, Sequence[float]], part: str = READING) -> None:
        """Keeps a row's values by subject; subjects without any are left out."""
        for subject, found in values.items():
            if found:
                figure = Figure(row.name, row.title, subject, row.unit, row.higher_is_better, list(found), part)
                self.report.add(figure)

    def measure(
        self,
        workload: Workload,
        subjects: Sequence[Subject],
        root: Callable[[Subject], Path] = lambda subject: subject.tree(),
        part: str = READING,
    ) -> None:
        """Runs a workload on each subject in turn, so that other load on the machine affects all of them."""
        values: dict[str, list[Sequence[float]]] = {subject.name: [] for subject in subjects}
        spent = dict.fromkeys(values, 0.0)
        for repetition in range(self.plan.repetitions):
            self.say(f"{workload.title}, {repetition + 1} of {self.plan.repetitions}")
            for subject in subjects:
                tired = repetition >= PEER_REPETITIONS or spent[subject.name] >= REPEATED_WITHIN_S
                if isinstance(subject, MountPeer) and tired:
                    continue
                started = time.monotonic()
                with self.forgiving(subject, workload.title) as failed:
                    if workload.is_rehearsed:
                        subject.refresh()
                        workload.run(root(subject), self.sizes, repetition)
                    subject.refresh()
                    values[subject.name].append(workload.run(root(subject), self.sizes, repetition))
                spent[subject.name] += REPEATED_WITHIN_S if failed else time.monotonic() - started
        for number, row in enumerate(workload.rows):
            self.add(row, {name: [run[number] for run in runs] for name, runs in values.items()}, part)

    @contextmanager
    def forgiving(self, subject: object, what: str) -> Iterator[list[str]]:
        """Records a peer's failure or timeout, and yields a list that then has it.

        Failures of anything else end the part that runs.
        """
        failed: list[str] = []
        if not isinstance(subject, Peer):
            yield failed
            return
        late = threading.Timer(PEER_SECONDS_MAX, subject.kill)
        late.start()
        try:
            yield failed
        except PEER_FAILURES as error:
            failed.append(f"over {PEER_SECONDS_MAX:.0f} s" if subject.killed else first_line(error))
            self.note(f"{subject.name}: {what}: {failed[0]}")
        finally:
            late.cancel()


def first_line(error: BaseException) -> str:
    """Returns an error's words, short enough for a list."""
    words = [line for line in str(error).splitlines() if line.strip()]
    return " ".join([type(error).__name__ + ":", *words[:2]])[:300]
