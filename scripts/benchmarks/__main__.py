"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import costs, growth, machine, parameters, peers, read_costs
from benchmarks.session import Plan, Session

QUICK = Plan(scale=0.02, repetitions=3, versions=3)
MIDDLE = Plan(scale=0.1, repetitions=3, versions=5)
FULL = Plan(scale=1.0, repetitions=5, versions=10)
PARTS = ("tree", "documents", "writing", "loading")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a fiftieth of the data, about two minutes")
    size.add_argument("--full", action="store_true", help="all of the data: 2.6 GB, over half an hour, 15 GB of disk")
    parser.add_argument("--scale", type=float, help="another size of the data; 1 is full, 0.1 the default")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=PARTS,
        help="a part to run; may be given several times (default: all but loading)",
    )
    parser.add_argument(
        "--peers",
        action="append",
        default=[],
        choices=["all", *peers.ALL],
        help="other people's programs to measure beside, installed where they are missing (default: all with --full)",
    )
    parser.add_argument("--repetitions", type=int, help="how often each workload is run")
    parser.add_argument("--parameters", action="store_true", help="measure chunk sizes and block sizes instead")
    parser.add_argument(
        "--costs", action="store_true", help="count requests, system calls and processor time of one operation instead"
    )
    parser.add_argument(
        "--growth",
        nargs="?",
        type=float,
        const=1.0,
        metavar="SCALE",
        help="measure what ten times the files, versions and branches cost instead; 1: up to 1,000,000 files, 10,000 "
        "versions, 100 branches",
    )
    parser.add_argument(
        "--directory", type=Path, help="where the data goes; default: the directory for temporary files"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="where results.json and .md go")
    return parser.parse_args()


def main() -> int:
    """Measures what was asked for and prints the table."""
    arguments = _arguments()
    where = (arguments.directory or Path(tempfile.gettempdir())).resolve()
    if arguments.parameters:
        print(machine.machine_line() + "; " + machine.load_line() + "\n")
        for section in parameters.measure(where):
            print(section, flush=True)
        return 0
    if not machine.can_drop_caches():
        print(
            "scripts/bench: cold figures need root, which may drop the kernel's caches; run it as root", file=sys.stderr
        )
        return 2
    if arguments.costs:
        print(machine.machine_line() + "; " + machine.load_line() + "\n")
        print(costs.measure(where), end="\n\n")
        print(read_costs.measure(where))
        return 0
    if arguments.growth is not None:
        print(machine.machine_line() + "; " + machine.load_line() + "\n")
        print(growth.measure(where, arguments.growth, lambda words: print(words, file=sys.stderr)))
        return 0
    plan = QUICK if arguments.quick else FULL if arguments.full else MIDDLE
    if arguments.scale is not None:
        plan = replace(plan, scale=arguments.scale)
    if arguments.repetitions is not None:
        plan = replace(plan, repetitions=arguments.repetitions)
    names = arguments.peers or (["all"] if arguments.full else [])
    kinds = [kind for name, kind in peers.ALL.items() if name in names or "all" in names]
    peers.install(kinds, lambda words: print(words, file=sys.stderr))
    plan = replace(plan, peers=kinds)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=where) as scratch:
        session = Session(plan, Path(scratch))
        try:
            session.run(arguments.only or (PARTS if arguments.full else PARTS[:3]))
        finally:
            # What was measured before a failure is worth keeping.
            session.close()
            session.report.write(arguments.out)
    print(session.report.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
