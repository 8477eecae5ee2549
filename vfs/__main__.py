"""`vfs` and `python -m vfs`: the version at once, everything else by the command line."""

from __future__ import annotations

import gc
import sys

from vfs import __version__


def main() -> int:
    """Runs the command line of this process and returns its exit status; `--version` alone loads no library."""
    if sys.argv[1:] == ["--version"] and sys.stdout is not None:
        # The command line does it too, and says what is wrong where the output cannot be written.
        try:
            sys.stdout.write(f"vfs {__version__}\n")
            sys.stdout.flush()
        except OSError:
            pass
        else:
            return 0
    # Modules are never garbage: no collection while they are made, and none looks at them later.
    gc.disable()
    from vfs.cli.main import main as run

    gc.freeze()
    gc.enable()
    return run()


if __name__ == "__main__":
    sys.exit(main())
