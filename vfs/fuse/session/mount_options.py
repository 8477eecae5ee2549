"""How a repository is mounted: the options that its caller gives, and those of the mount call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vfs.fuse.known_inode_count import NAMES_MAX
from vfs.fuse.session.mountpoint import SUBTYPE, source_of
from vfs.store.object_store import CACHE_BYTES


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How a repository is mounted. Without `suid` and `dev`, set-user-id bits and device nodes have no effect.

    `branch`: the one in the mount's root, for as long as it lasts; None: the current one, also after a switch.
    `cache_bytes`: what the caches of the store may hold together. `names_max`: see `Pruner`.
    `survives`: another daemon takes the mount over if this one is killed, where the kernel and the caller can do so.
    `connection`: the descriptor of a mount that the caller's caller made at the mount point, and ends.
    `supervisor`: the process of a mount in the foreground, with which the daemon ends; 0: none.
    `log_json`: the log has one JSON object a line.
    `see_opens`: the kernel asks the daemon at every open, in a read-only mount too.
    `follow_s`: the repository is the mirror of a remote, which is asked for new versions so often; 0: never.
    """

    branch: str | None = None
    read_only: bool = False
    allow_other: bool = False
    dev: bool = False
    suid: bool = False
    list_versions: bool = False
    cache_bytes: int = CACHE_BYTES
    names_max: int = NAMES_MAX
    see_opens: bool = False
    follow_s: float = 0.0
    survives: bool = False
    connection: int | None = None
    supervisor: int = 0
    log_json: bool = False

    def for_kernel(self, repository: Path) -> set[str]:
        """Returns the options of the mount call; the type is `fuse.vfs`."""
        options = {
            "default_permissions",
            # Reads that the kernel answers from its cache are not seen, so no access time would be right.
            "noatime",
            f"fsname={source_of(repository, self.branch)}",
            f"subtype={SUBTYPE}",
            "dev" if self.dev else "nodev",
            "suid" if self.suid else "nosuid",
        }
        if self.read_only:
            options.add("ro")
        if self.allow_other:
            options.add("allow_other")
        return options
