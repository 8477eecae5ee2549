"""One run of the benchmark: its parts in turn, each of which may fail without the others."""

from __future__ import annotations

import os
import subprocess
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import data, loading, machine, peers
from benchmarks.bench import MB, Bench, Part, first_line
from benchmarks.bulk import BytesPart, DirectoryPart, SparsePart
from benchmarks.documents import DocumentsPart
from benchmarks.growth import GrowthPart
from benchmarks.loading import LoadingPart
from benchmarks.page import PagePart
from benchmarks.plans import Plan, estimate
from benchmarks.progress import Progress
from benchmarks.provenance import ProvenancePart
from benchmarks.remotes import RemotesPart
from benchmarks.report import Report
from benchmarks.tree import TreePart
from benchmarks.writing import WritingPart

KINDS: dict[str, Sequence[Callable[[Bench], Part]]] = {
    "tree": (TreePart,),
    "documents": (DocumentsPart,),
    "writing": (WritingPart,),
    "loading": (LoadingPart,),
    "page": (PagePart,),
    "provenance": (ProvenancePart,),
    "remotes": (RemotesPart,),
    "growth": (GrowthPart, DirectoryPart, SparsePart, BytesPart),
}


class Session:
    """Runs parts in a scratch directory, and writes down after each what there is."""

    def __init__(self, plan: Plan, parts: Sequence[str], scratch: Path, out: Path) -> None:
        self._parts = parts
        self._out = out
        sizes = data.Sizes.scaled(plan.scale)
        self.report = Report(
            machine=machine.machine_line() + f", {machine.filesystem_of(scratch)}",
            commit=_commit(),
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            scale=plan.scale,
            data=f"{sizes.images:,} images of 10 to 150 KB, {sizes.tables} tables of {sizes.table_bytes / MB:.0f} MB, "
            f"{sizes.documents:,} documents of about 1 KB",
            repetitions=plan.repetitions,
            load=[machine.load_line()],
        )
        self._bench = Bench(plan, scratch, self.report, Progress(estimate(plan, parts)))

    def run(self) -> bool:
        """Installs missing programs and runs all parts. Returns True if none of them failed."""
        whole = True
        bench = self._bench
        bench.plan = replace(bench.plan, peers=peers.install(bench.plan.peers, bench.say, bench.note))
        if "loading" in self._parts:
            self._install_loaders()
        for name in self._parts:
            self._bench.progress.begin(name)
            try:
                for kind in KINDS[name]:
                    whole = self._run(name, kind) and whole
            finally:
                self.report.seconds[name] = self._bench.progress.end()
                self.report.load.append(machine.load_line())
                self.report.write(self._out)
        return whole

    def _install_loaders(self) -> None:
        try:
            loading.install(self._bench.say)
        except (OSError, subprocess.SubprocessError) as error:
            self._bench.note(f"what `loading` reads with could not be installed: {first_line(error)}")

    def _run(self, name: str, kind: Callable[[Bench], Part]) -> bool:
        part = kind(self._bench)
        try:
            part.run()
        except Exception as error:  # noqa: BLE001 - whatever a part meets, the others go on
            # What other parts can still find is worth more than an early end.
            traceback.print_exc()
            self._bench.note(f"{name} ended early: {first_line(error)}")
            return False
        except KeyboardInterrupt:
            self._bench.note(f"interrupted in {name}")
            raise
        finally:
            part.close()
        return True


def _commit() -> str:
    """Returns the short id of the commit that the source is at, with a plus where it is changed."""
    top = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(top), "describe", "--always", "--dirty=+"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or os.environ.get("BENCH_COMMIT", "unknown")
