"""Going into the background: readiness and errors reach the command that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from vfs.errors import Busy


def _run(tmp_path: Path, serve: str) -> subprocess.CompletedProcess[str]:
    """Detaches `serve` from a process of one thread, as the command is, and prints what comes of it."""
    program = textwrap.dedent(
        """
        import logging, os, sys
        from pathlib import Path
        from vfs.backend.rooted_path import RootedPath
        from vfs.errors import Busy, VfsError
        from vfs.fuse.session.daemon import detach

        def serve(ready):
        {serve}

        try:
            notices = detach(serve, RootedPath(Path({root!r}), 'run', 'log'))
        except VfsError as error:
            print(type(error).__name__, error.code, error.exit_status, error.message, error.hint, sep="|")
        else:
            print(*notices or ["ready"], sep="\\n")
        """
    ).format(serve=textwrap.indent(textwrap.dedent(serve), "    "), root=str(tmp_path))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300, check=False
    )


def test_the_command_returns_when_the_daemon_is_ready_and_the_daemon_continues(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = _run(tmp_path, f"ready([])\nopen({str(fifo)!r}, 'w').write(os.getcwd())")
    assert (done.stdout, done.stderr) == ("ready\n", "")
    assert fifo.read_text() == "/"


def test_an_error_before_it_is_ready_is_the_commands_error(tmp_path: Path) -> None:
    done = _run(tmp_path, "raise Busy('somebody has it', hint='Wait.')")
    assert done.stdout == f"DaemonFailed|busy|{Busy.exit_status}|somebody has it|Wait.\n"


def test_an_unexpected_error_is_reported_and_its_traceback_logged(tmp_path: Path) -> None:
    done = _run(tmp_path, "raise ZeroDivisionError('oh')")
    assert "ZeroDivisionError: oh" in done.stdout
    assert "Traceback" in (tmp_path / "run" / "log").read_text()


def test_a_log_that_cannot_be_opened_is_reported_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    done = _run(tmp_path, "ready([])")
    assert done.stdout.startswith("DaemonFailed|")
    assert str(tmp_path / "run") in done.stdout
    assert done.stderr == ""


def test_a_link_in_the_place_of_the_logs_directory_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "run").symlink_to(outside)
    assert _run(tmp_path, "ready([])").stdout.startswith("DaemonFailed|planted|")
    (tmp_path / "run").unlink()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log").symlink_to(outside / "log")
    assert _run(tmp_path, "ready([])").stdout.startswith("DaemonFailed|planted|")
    assert os.listdir(outside) == []


def test_a_log_that_the_disk_does_not_take_is_done_without(tmp_path: Path) -> None:
    """The directory that is to hold it cannot be made: as on a full or read-only disk."""
    done = _run(tmp_path / "gone", "ready(['more'])")
    notice, more = done.stdout.splitlines()
    assert notice.startswith("the daemon keeps no log: ")
    assert str(tmp_path / "gone") in notice
    assert more == "more"


def test_a_daemon_that_ends_without_a_word_is_an_error(tmp_path: Path) -> None:
    assert "ended without a message" in _run(tmp_path, "os._exit(0)").stdout


def test_what_the_daemon_prints_and_logs_goes_to_its_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    serve = f"ready([])\nprint('printed', flush=True)\nlogging.info('logged')\nopen({str(fifo)!r}, 'w').write('done')"
    assert _run(tmp_path, serve).stdout == "ready\n"
    assert fifo.read_text() == "done"
    text = (tmp_path / "run" / "log").read_text()
    assert "printed" in text
    assert "INFO root: logged" in text


def test_no_event_loop_is_imported_to_detach() -> None:
    modules = "vfs.fuse.session.daemon, vfs.fuse.session.mountpoint, vfs.control.client"
    program = f"import sys, {modules}; print({{'trio', 'pyfuse3'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "set()\n"
