"""The command line of scripts/bench."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from benchmarks import costs, document, machine, parameters, peers, read_costs
from benchmarks.plans import FULL, IN_FULL, MIDDLE, MODERATE, PARTS, QUICK, Plan, minutes
from benchmarks.session import Session

OUT = Path("bench-results")
INTERRUPTED = 130


def _all_peers(plan: Plan) -> Plan:
    return replace(plan, peers=list(peers.ALL.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_true", help=f"a fiftieth of the data, about {minutes(QUICK, MODERATE)} minutes"
    )
    size.add_argument(
        "--full",
        action="store_true",
        help="all of the data, all parts but provenance and remotes, and all peers: "
        f"about {minutes(_all_peers(FULL), IN_FULL)} minutes (without "
        "installing missing programs), 50 GB of disk",
    )
    parser.add_argument(
        "--scale",
        type=float,
        help=f"another size of the data; 1 is full, 0.1 the default, about {minutes(MIDDLE, MODERATE)} minutes",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=PARTS,
        help="a part to run; may be given several times (default: all with --full, else all but loading and growth)",
    )
    parser.add_argument(
        "--peers",
        action="append",
        default=[],
        choices=["all", "none", *peers.ALL],
        help="other people's programs to measure beside, installed where they are missing (default: all with --full)",
    )
    parser.add_argument("--repetitions", type=int, help="how often each workload is run")
    parser.add_argument("--parameters", action="store_true", help="measure chunk sizes and block sizes instead")
    parser.add_argument(
        "--costs", action="store_true", help="count requests, system calls and processor time of one operation instead"
    )
    parser.add_argument(
        "--document",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="measure nothing: write the results kept in these files into docs/benchmarks.md",
    )
    parser.add_argument(
        "--directory", type=Path, help="where the data goes; default: the directory for temporary files"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="where results.json and .md go")
    return parser.parse_args()


def main() -> int:
    """Measures what was asked for and prints the table."""
    arguments = _arguments()
    where = (arguments.directory or Path(tempfile.gettempdir())).resolve()
    if arguments.document:
        document.write(arguments.document)
        return 0
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
    parts = [part for part in PARTS if part in arguments.only] or (IN_FULL if arguments.full else MODERATE)
    return _measure(_plan(arguments), parts, where, arguments.out)


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = QUICK if arguments.quick else _all_peers(FULL) if arguments.full else MIDDLE
    if arguments.scale is not None:
        plan = replace(plan, scale=arguments.scale)
    if arguments.repetitions is not None:
        plan = replace(plan, repetitions=arguments.repetitions)
    if arguments.peers:
        named = [kind for name, kind in peers.ALL.items() if name in arguments.peers]
        plan = _all_peers(plan) if "all" in arguments.peers else replace(plan, peers=named)
    return plan


def _measure(plan: Plan, parts: Sequence[str], where: Path, out: Path) -> int:
    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    with _terminated_as_interrupted(), tempfile.TemporaryDirectory(prefix="bench-", dir=where) as scratch:
        say(f"about {minutes(plan, parts)} minutes: {', '.join(parts)}")
        session = Session(plan, parts, Path(scratch), out)
        try:
            status = 0 if session.run() else 1
        except KeyboardInterrupt:
            status = INTERRUPTED
    print(session.report.markdown())
    say(f"kept in {out}")
    return status


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Lets SIGTERM do what Ctrl-C does: unmount and remove everything, and keep what was measured."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
