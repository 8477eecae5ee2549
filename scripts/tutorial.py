"""Runs every command of README.md and docs/tutorial.md and compares what it prints with what stands there.

    scripts/tutorial.py            exits with 1 and shows the difference where they disagree
    scripts/tutorial.py --write    puts what the commands print into the pages

A block that starts with three backticks and `console` holds commands, lines that start with `$ `, each followed by its
output. Those of a page run in one shell, in a new directory. Ids, dates, sizes, durations and that directory's name
may differ from run to run.
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
PAGES = (ROOT / "README.md", ROOT / "docs" / "tutorial.md")
SHOWN_DIRECTORY = "/tmp/tutorial"

_START, _END, _PROMPT = "```console", "```", "$ "
_MARK = "\x1e"
_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "ID64"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "IDENTITY"),
    (re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+Z?)?"), "TIME"),
    (re.compile(r"\b\d{4}-\d{2}-\d{2}\b"), "DATE"),
    (re.compile(r" *\b\d+(\.\d+)? ([KM]iB|B)\b"), " SIZE"),
    (re.compile(r"\b\d+(\.\d+)? s(?=$| \()", re.MULTILINE), "SECONDS"),
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


def check_page(page: Path, *, write: bool) -> bool:
    """Runs a page's commands; returns whether they print what it says, or writes what they print into it."""
    lines = page.read_text(encoding="utf-8").splitlines()
    steps = read_steps(lines)
    with tempfile.TemporaryDirectory() as directory:
        real = os.path.realpath(directory)
        try:
            outputs = run_steps([step.command for step in steps], real, str(Path(sys.executable).parent))
        finally:
            # The page unmounts at its end; if it did not get there, nothing may stay mounted all the same.
            if os.path.ismount(f"{real}/data"):
                subprocess.run(["fusermount3", "-u", "-z", f"{real}/data"], check=False)
    found = with_outputs(lines, steps, outputs)
    if write:
        page.write_text("\n".join(found) + "\n", encoding="utf-8")
        return True
    difference = list(difflib.unified_diff(settled(lines), settled(found), page.name, "as run", lineterm=""))
    print("\n".join(difference) if difference else f"{page.name}: {len(steps)} commands print what it says")
    return not difference


def main() -> int:
    """Checks all pages, or writes them."""
    parser = argparse.ArgumentParser(description="Runs the commands of README.md and docs/tutorial.md.")
    parser.add_argument("--write", action="store_true", help="put the output into the pages")
    write = parser.parse_args().write
    agree = [check_page(page, write=write) for page in PAGES]
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
