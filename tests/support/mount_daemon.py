"""A mount's daemon in tests: what `vfs mount --foreground` does, with a word on its standard output once it answers."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

from support.remote import serve_from_network
from vfs.fuse import background_compaction, recorder
from vfs.fuse.mount import run_mount
from vfs.fuse.session import guard
from vfs.fuse.session.mount_options import MountOptions
from vfs.overlay.compaction import compaction_policy

READY = "ready"


def main() -> None:
    """Serves the repository and mount point of the command line, with the options after them (see `mounted`)."""
    warnings.simplefilter("error")
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("vfs.fuse.inode_pruning").setLevel(logging.DEBUG)
    repository, path, *options = sys.argv[1:]
    words = (word.partition("=") for word in options if word not in ("short_journals", "not_local", "kept_opens"))
    named: dict[str, Any] = {name: int(value) if value.isdigit() else value or True for name, _, value in words}
    if "short_journals" in options:
        size = compaction_policy.Size
        vars(compaction_policy).update(FREE=size(40_000, 100), _MEASURE_SIZE=size(10_000, 20))
        background_compaction.CHECK_INTERVAL_S = 0.02
    if "kept_opens" in options:
        # What was opened natively stays in the native layer's ring, until that is full or the run ends.
        vars(recorder)["_FLUSH_INTERVAL_S"] = 1000.0
    if "takeovers_max" in named:
        vars(guard)["TAKEOVERS_MAX"] = named.pop("takeovers_max")
    if "not_local" in options:
        serve_from_network(Path(path + ".gate"))
    run_mount(Path(repository), Path(path), MountOptions(**named), _tell_ready)


def _tell_ready(_warnings: object) -> None:
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
