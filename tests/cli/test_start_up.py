"""What a command loads when it starts, and what works without the libraries of mounts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vfs.cli.main import main

ROOT = Path(__file__).resolve().parents[2]

_RUN = """
import sys
blocked = sys.argv.pop(1).split()

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import atexit

def tell():
    modules = sorted(sys.modules)
    import json
    print(json.dumps(modules), file=sys.stderr)

atexit.register(tell)
from vfs.__main__ import main
sys.exit(main())
"""
MOUNTS = "pyfuse3 trio"
HEAVY = {"trio", "pyfuse3", "tqdm", "vfs.fuse", "duckdb", "PIL", "numpy", "pyarrow", "fsspec", "asyncio"}


def run(words: list[str], *, blocked: str = "", repository: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process that has not the blocked libraries; it prints its modules to standard error."""
    return subprocess.run(
        [sys.executable, "-c", _RUN, blocked, *words],
        env={"VFS_REPO": str(repository or ""), "PYTHONPATH": str(ROOT), "VFS_AUTHOR": "a <a@b>"},
        capture_output=True,
        text=True,
        check=False,
    )


def modules_of(words: list[str], repository: Path | None = None) -> set[str]:
    """Returns the modules that a command loaded."""
    done = run(words, repository=repository)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    assert main(["init", str(path)]) == 0
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"1")
    assert main(["--repo", str(path), "import", str(tmp_path / "data"), "-m", "first"]) == 0
    return path


def test_the_version_is_printed_without_any_library() -> None:
    ours = {name for name in modules_of(["--version"]) if name.startswith(("vfs", "click", "msgspec"))}
    assert ours == {"vfs", "vfs.__main__"}


def test_the_version_with_other_words_is_the_command_lines() -> None:
    assert run(["--version", "--color=never"]).stdout == run(["--version"]).stdout


@pytest.mark.parametrize("words", [["--help"], ["status"], ["log"], ["diff"], ["ls"], ["du"], ["stats"], ["tag"]])
def test_commands_that_do_not_mount_import_nothing_of_it(words: list[str], repository: Path) -> None:
    assert not modules_of(words, repository) & HEAVY


@pytest.mark.parametrize("words", [["log"], ["show"], ["ls"], ["cat", "a"], ["blame", "a"]])
def test_commands_that_read_import_nothing_that_writes(words: list[str], repository: Path) -> None:
    writing = {"vfs.repo.commit", "vfs.repo.merge", "vfs.control.services", "pathspec"}
    assert not modules_of(words, repository) & writing


NOT_AT_START = {"vfs.store.remote_blocks", "vfs.cli.command_suggestions", "vfs.history.merge_trees", "vfs.repo.commit"}
NOT_AT_START |= {
    "vfs.api.repository_documents",
    "vfs.remote",
    "vfs.repo.undo",
    "vfs.overlay.snapshot",
    "vfs.formats.text",
}
NOT_AT_START |= {"concurrent.futures", "logging", "subprocess", "ctypes", "pyfastcdc", "pathspec", "hashlib", "random"}
NOT_AT_START |= {"tempfile", "shutil", "socket", "getpass", "json", "traceback", "string", "typing_extensions"}
NOT_AT_START |= {"inspect", "platform", "difflib", "vfs.history.diff", "vfs.history.path_history"}
NOT_AT_START |= {"vfs.control.services", "vfs.api.documents", "vfs.store.trees.content_writer"}
"""What costs a short command more than it does."""
NOT_FOR_READING = {"vfs.overlay"}
NOT_WITHOUT_CHANGES = {"vfs.overlay.overlay", "vfs.overlay.state", "vfs.history.diff", "vfs.repo.ignore_rules"}


@pytest.mark.parametrize("words", [["log"], ["branch"], ["status"]])
def test_short_commands_load_what_they_use(words: list[str], repository: Path) -> None:
    unwanted = NOT_AT_START | (NOT_WITHOUT_CHANGES if words == ["status"] else NOT_FOR_READING)
    assert modules_of(words, repository) & unwanted == set()


@pytest.mark.parametrize("words", [["log", "a"], ["log", "--json"]])
def test_commands_that_read_load_no_working_layer(words: list[str], repository: Path) -> None:
    assert modules_of(words, repository) & {"vfs.overlay", "vfs.control.services", "logging", "vfs.remote"} == set()


def test_what_stands_for_a_library_leads_to_it() -> None:
    done = run_program(
        "import sys; from vfs.cli import quick_imports as q\n"
        "stand_in = sys.modules['platform'] = q._Platform('platform')\n"
        "assert stand_in.system() and stand_in.python_implementation() and stand_in.machine()\n"
        "assert sys.modules['platform'] is not stand_in\n"
    )
    assert done.returncode == 0, done.stderr


def test_what_stands_for_libraries_at_the_start_is_gone_then() -> None:
    done = run_program(
        "import sys; sys.argv = ['vfs', 'init', '--help']\n"
        "from vfs.__main__ import main\n"
        "import vfs.__main__; vfs.__main__._leave = lambda status: None\n"
        "main()\n"
        "import inspect, platform, uuid, msgspec, click\n"
        "assert inspect.isfunction(main) and platform.python_version() and uuid.uuid4()\n"
        "assert msgspec.json.encode(uuid.UUID(int=1)) and click.Option(['--a'], help='one\\n  two').help == 'one\\ntwo'"
    )
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout


def run_program(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_program_ends_quickly_and_runs_what_waits_for_the_end() -> None:
    begin = "import atexit, sys; sys.argv = ['vfs', 'no-such']; atexit.register(print, 'at the end')\n"
    done = run_program(
        f"{begin}class Late:\n    def __del__(self): print('taken apart')\nlate = Late()\n"
        "from vfs.__main__ import main\nsys.exit(main())"
    )
    assert (done.returncode, done.stdout) == (2, "at the end\n")
    assert "No such command" in done.stderr


def test_the_program_waits_for_threads() -> None:
    done = run_program(
        "import sys, threading; sys.argv = ['vfs', '--help']\n"
        "from vfs.__main__ import main\n"
        "go = threading.Event()\n"
        "threading.Thread(target=lambda: (go.wait(), print('the thread ended'))).start()\n"
        "status = main()\ngo.set()\nsys.exit(status)"
    )
    assert done.returncode == 0
    assert done.stdout.endswith("the thread ended\n")


def test_everything_but_mounts_works_without_their_libraries(tmp_path: Path) -> None:
    repository, data = tmp_path / "r", tmp_path / "data"
    data.mkdir()
    (data / "a").write_bytes(b"1")
    words = [
        ["init", str(repository)],
        ["import", str(data), "-m", "first"],
        ["log"],
        ["status"],
        ["export", "v1", str(tmp_path / "out")],
        ["fsck"],
    ]
    for each in words:
        done = run(each, blocked=MOUNTS, repository=repository)
        assert done.returncode == 0, (each, done.stderr)
    (data / "a").write_bytes(b"22")
    assert run(["import", str(data), "-m", "second"], blocked=MOUNTS, repository=repository).returncode == 0
    assert run(["diff", "v1", "v2"], blocked=MOUNTS, repository=repository).returncode == 1
    assert (tmp_path / "out" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("missing", MOUNTS.split())
def test_mount_says_which_extra_brings_what_it_lacks(missing: str, repository: Path, tmp_path: Path) -> None:
    done = run(["mount", str(repository), str(tmp_path / "mnt")], blocked=missing)
    assert done.returncode == 6
    assert missing in done.stderr
    assert "pip install 'vfs-versions[mount]'" in done.stderr


def test_umount_needs_no_library_of_mounts(tmp_path: Path) -> None:
    done = run(["umount", str(tmp_path)], blocked=MOUNTS)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
