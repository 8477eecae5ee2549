"""Compiles the native session layer when the package is built or installed; without a compiler, goes on without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

FLAGS = ("-O3", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fvisibility=hidden", "-shared", "-fPIC")


def compile_session(folder: Path, library: Path, flags: tuple[str, ...] = FLAGS) -> str:
    """Compiles the C sources of a folder; returns the reason if that is not possible, else an empty string."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        return "there is no C compiler"
    made = library.with_suffix(f".{os.getpid()}")
    sources = sorted(map(str, folder.glob("*.c")))
    command = [*compiler.split(), *flags, "-o", str(made), *sources, "-ldl", "-pthread"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        made.unlink(missing_ok=True)
        return done.stderr.strip()
    # Not in place: a running mount has the old one mapped.
    made.replace(library)
    return ""


class NativeHook(BuildHookInterface[Any]):
    """Called by hatchling for wheels and editable installations."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the library and adds it to the wheel, whose tag names the platform then."""
        pages = Path(self.root, "build", "man")
        if self.target_name == "wheel" and pages.is_dir():
            # Made by scripts/wheels.
            build_data["shared_data"][str(pages)] = "share/man/man1"
        folder = Path(self.root, "vfs", "native")
        library = folder / "_session.so"
        reason = compile_session(folder, library)
        if reason:
            library.unlink(missing_ok=True)
            print(f"the native session layer is left out: {reason}", file=sys.stderr)
            return
        build_data["artifacts"].append("vfs/native/_session.so")
        if self.target_name == "wheel" and version != "editable":
            platform = next(tag.platform for tag in sys_tags() if "manylinux" not in tag.platform)
            build_data["tag"] = f"py3-none-{platform}"
            build_data["pure_python"] = False
