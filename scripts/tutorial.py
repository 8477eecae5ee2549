"""Runs every command of docs/tutorial.md and compares what it prints with what stands there.

    scripts/tutorial.py            exits with 1 and shows the difference where they disagree
    scripts/tutorial.py --write    puts what the commands print into the page

A block that starts with three backticks and `console` holds commands, lines that start with `$ `, each followed by its
output. All run in one shell, in a new directory. Ids, dates and that directory's name may differ from run to run.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
SHOWN_DIRECTORY = "/tmp/tutorial"

_START, _END, _PROMPT = "```console", "```", "$ "
_MARK = "\x1e"
_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID64"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "IDENTITY"),
    (re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+Z?)?"), "TIME"),
    (re.compile(r"\b\d{4}-\d{2}-\d{2}\b"), "DATE"),
)


@dataclass
class Step:
    """One command of the page with its output, and the lines it stands on."""

    command: str
    first: int
    output: list[str] = field(default_factory=list)


def read_steps(lines: list[str]) -> list[Step]:
    """Returns the commands of the page in their order."""
    steps: list[Step] = []
    inside = False
    for number, line in enumerate(lines):
        if line == _START or (inside and line == _END):
            inside = not inside
        elif inside and line.startswith(_PROMPT):
            steps.append(Step(line.removeprefix(_PROMPT), number))
        elif inside:
            steps[-1].output.append(line)
    return steps


def run_steps(commands: list[str], directory: str, programs: str) -> list[list[str]]:
    """Returns the output lines of each command, all run in one shell in a directory."""
    script = "".join(f"{command}\nprintf '{_MARK}'\n" for command in commands)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": directory,
        "VFS_AUTHOR": "ann@lab",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    done = subprocess.run(
        ["bash", "-c", f"exec 2>&1\numask 022\n{script}"],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    outputs = done.stdout.replace(directory, SHOWN_DIRECTORY).split(_MARK)
    return [output.splitlines() for output in outputs[: len(commands)]]


def with_outputs(lines: list[str], steps: list[Step], outputs: list[list[str]]) -> list[str]:
    """Returns the page with other outputs below its commands."""
    result, at = [], 0
    for step, output in zip(steps, outputs, strict=True):
        result += lines[at : step.first + 1] + output
        at = step.first + 1 + len(step.output)
    return result + lines[at:]


def settled(lines: list[str]) -> list[str]:
    """Returns lines with everything that differs from run to run replaced."""
    text = "\n".join(lines)
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text.split("\n")


def main() -> int:
    """Runs the page's commands; compares or writes."""
    parser = argparse.ArgumentParser(description="Runs the commands of docs/tutorial.md.")
    parser.add_argument("--write", action="store_true", help="put the output into the page")
    write = parser.parse_args().write
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    steps = read_steps(lines)
    with tempfile.TemporaryDirectory() as directory:
        real = os.path.realpath(directory)
        try:
            outputs = run_steps([step.command for step in steps], real, str(Path(sys.executable).parent))
        finally:
            # The page unmounts at its end; if it did not get there, nothing may stay mounted all the same.
            for mount in ("data",):
                subprocess.run(["umount", "-l", f"{real}/{mount}"], capture_output=True, check=False)
    found = with_outputs(lines, steps, outputs)
    if write:
        PAGE.write_text("\n".join(found) + "\n", encoding="utf-8")
        return 0
    difference = list(difflib.unified_diff(settled(lines), settled(found), "docs/tutorial.md", "as run", lineterm=""))
    print("\n".join(difference) if difference else f"{len(steps)} commands print what the tutorial says")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
