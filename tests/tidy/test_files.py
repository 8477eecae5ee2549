"""Rules of the project's files: where things lie, and what no file may name."""

from __future__ import annotations

import os
import re

from support import source

TOP_LEVEL = {"README.md", "LICENSE", "pyproject.toml", "vfs", "tests", "scripts", "docs"}

# The text of the licence is not ours to change.
NOT_OURS = {"LICENSE"} | {source.relative(path) for path in (source.ROOT / "vfs/web/static/vendor").iterdir()}

# A path that exists on one machine only, or an address: nothing here depends on where it was made. Addresses that name
# no host show how one is written.
MACHINE = re.compile(
    r"(?<![\w.<>{}*@-])/(?:work|home|root|Users|opt|farm)/|\b(?:https?|s?ftp|file)://(?![/{]|HOST|host\b|user@host|h\b|127\.0\.0\.1)[^\s`\"']",
    re.ASCII,
)
# Formats are named by what looks like an address; nothing is fetched from it.
FORMAT_NAMES = re.compile(r"https?://(?:in-toto\.io|slsa\.dev|openlineage\.io|w3id\.org|schema\.org)/")
HEX_LOCK_LINE = re.compile(r"(#.*|[a-z0-9.\[\]-]+==\S+( ; .*)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?)")


def test_the_top_level_holds_what_the_readme_says() -> None:
    names = {name for name in os.listdir(source.ROOT) if not name.startswith(".")}
    assert names - {"dist", "build", "bench-results"} == TOP_LEVEL


def test_no_file_names_a_machine_or_a_host() -> None:
    named = []
    for path in source.files():
        if source.relative(path) in NOT_OURS:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if path != source.ROOT / "tests/tidy/test_files.py" and MACHINE.search(FORMAT_NAMES.sub("", line)):
                named.append(f"{source.relative(path)}:{number} {line.strip()[:80]}")
    assert not named


def test_lock_files_hold_versions_and_hashes_and_nothing_else() -> None:
    locks = sorted((source.ROOT / "scripts/requirements").glob("*.lock"))
    assert {"build.lock", "dev.lock", "runtime.lock"} <= {path.name for path in locks}
    for path in locks:
        odd = [line for line in path.read_text(encoding="utf-8").splitlines() if not HEX_LOCK_LINE.fullmatch(line)]
        assert not odd


def test_scripts_start_with_how_to_run_them() -> None:
    for path in [*(source.ROOT / "scripts").iterdir(), source.ROOT / ".ci/run"]:
        if path.is_file() and path.suffix not in {".py", ".md"}:
            assert path.read_bytes().startswith(b"#!/usr/bin/env "), source.relative(path)
            assert os.access(path, os.X_OK), source.relative(path)
