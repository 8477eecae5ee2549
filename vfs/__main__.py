"""`vfs` and `python -m vfs`: the version at once, everything else by the command line."""

from __future__ import annotations

import gc
import os
import sys

from vfs import __version__

_GARBAGE_AFTER = 20_000
"""Objects from which on garbage is collected: more than a command's modules are."""


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
    from vfs.cli.quick_imports import import_libraries

    import_libraries()
    from vfs.cli.main import main as run

    gc.freeze()
    # The modules of the command come later; a daemon sets its own threshold.
    gc.set_threshold(_GARBAGE_AFTER)
    gc.enable()
    status = run()
    _leave(status)
    return status


def _leave(status: int) -> None:
    """Ends the process without taking every module apart, which takes a tenth of a short command's time.

    What was registered for the end is run as always. Returns where threads still run, or a tool watches the program:
    the interpreter ends the process then.
    """
    threading = sys.modules.get("threading")
    if sys.gettrace() is not None or sys.getprofile() is not None or (threading and threading.active_count() > 1):
        return
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001  There is no public name for it.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            return
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
