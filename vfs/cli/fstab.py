"""`mount.vfs`: what `mount -t vfs REPO MNT` and lines of /etc/fstab run, as mount(8) says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vfs.cli.main import main as run

MISUSE, FAILED = 1, 32
"""Exit statuses that mount(8) knows."""

_FLAGS = {
    "ro": "--read-only",
    "allow_other": "--allow-other",
    "dev": "--dev",
    "suid": "--suid",
    "see_opens": "--see-opens",
    "list_versions": "--list-versions",
    "no_takeover": "--no-takeover",
}
_VALUES = {"branch": "--branch", "cache": "--cache"}
_OF_MOUNT = {
    *("defaults", "rw", "nodev", "nosuid", "exec", "async", "noatime", "auto", "noauto", "user", "nouser", "users"),
    *("owner", "group", "nofail", "_netdev", "relatime", "diratime", "nodiratime", "loud", "silent"),
}
"""Options that are for mount(8), for systemd or for every filesystem, or what a mount does anyway."""
_USAGE = "usage: mount.vfs REPO MNT [-sfnvh] [-t TYPE] [-o OPTION,…]"


class _Misuse(Exception):
    """The words are not those of mount(8)."""


def main() -> int:
    """Mounts as the words of this process say, and returns an exit status of mount(8)."""
    try:
        words, is_pretended = parse(sys.argv[1:])
    except _Misuse as error:
        sys.stderr.write(f"mount.vfs: {error}\n{_USAGE}\n")
        return MISUSE
    if is_pretended:
        return 0
    # mount(8) clears it for some callers; programs that start a hook or a pager need one.
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    return FAILED if run(words) else 0


def parse(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Returns the words of `vfs mount`, and True with -f, which mounts nothing. Raises _Misuse."""
    operands: list[str] = []
    options: list[str] = []
    is_sloppy = is_pretended = False
    rest = iter(arguments)
    for word in rest:
        if word in ("-o", "-t", "-N"):
            value = next(rest, None)
            if value is None:
                raise _Misuse(f"{word} needs a value")
            options += value.split(",") if word == "-o" else []
        elif word.startswith("-") and len(word) > 1 and set(word[1:]) <= set("sfnvrw"):
            is_sloppy |= "s" in word
            is_pretended |= "f" in word
            options += ["ro"] if "r" in word else []
        elif word.startswith("-"):
            raise _Misuse(f"unknown option {word!r}")
        else:
            operands.append(word)
    if len(operands) != 2:
        raise _Misuse("name the repository and the mount point")
    return ["mount", *_words(filter(None, options), is_sloppy=is_sloppy), "--", *operands], is_pretended


def _words(options: Sequence[str] | filter[str], *, is_sloppy: bool) -> list[str]:
    words: list[str] = []
    for option in options:
        name, _, value = option.partition("=")
        if option in _FLAGS:
            words.append(_FLAGS[option])
        elif name in _VALUES and value:
            words += [_VALUES[name], value]
        elif not (option in _OF_MOUNT or name.startswith(("x-", "X-", "comment")) or is_sloppy):
            raise _Misuse(f"unknown mount option {option!r}")
    return words


if __name__ == "__main__":
    sys.exit(main())
