"""Runs as users see them: records, terminals, signals, secrets, repetitions, and the view of them in a mount."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.command_server import run_vfs
from support.mounts import Mount
from vfs.repo.repository import Repository
from vfs.repo.runs.records import find_run, load_manifest, load_record, run_file
from vfs.store.packs.blocks import open_block, parse_header
from vfs.store.packs.index import backend_packs
from vfs.store.packs.pack_file import read_info

pytestmark = pytest.mark.mount
WEB = "https:/"
VFS = str(Path(sys.executable).with_name("vfs"))
TRAINS = """
import os, sys
data, out = sys.argv[1:3]
total = sum(len(open(os.path.join(data, n)).read()) for n in sorted(os.listdir(data)) if n.startswith("f"))
open(os.path.join(data, "model.pt"), "w").write(f"model of {total}\\n" * 500)
open(out, "w").write(f"exported {total}")
open(os.environ["VFS_METRICS"], "a").write("accuracy=0.5 step=1\\n" + '{"accuracy": 0.93, "loss": {"a": 1}}\\n')
print("trained")
"""


class Program:
    """`vfs` on the mount, in a directory with code."""

    def __init__(self, mount: Mount, directory: Path) -> None:
        self.mount = mount
        self.directory = directory

    def command(self, *words: str | Path) -> list[str]:
        """Returns a command line."""
        return [VFS, "--repo", str(self.mount.path), *map(str, words)]

    def __call__(self, *words: str | Path, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        started = ("--repo", self.mount.path, *words)
        done = run_vfs(*started, directory=self.directory, variables={"VFS_AUTHOR": "ann@lab", **variables})
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done

    def record(self, name: str = "r1") -> dict[str, Any]:
        """Returns the document of a run."""
        found: dict[str, Any] = json.loads(self("runs", "show", name, "--json").stdout)
        return found


@pytest.fixture
def program(mount: Mount, tmp_path: Path) -> Program:
    """A mount with one version, and a git work tree with a program."""
    for number in range(3):
        (mount / f"f{number}").write_text(f"{number}\n" * 300)
    mount.commit()
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(TRAINS)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q", "-b", "trunk"), ("add", "train.py"), (*identity, "commit", "-q", "-m", "code")):
        subprocess.run(["git", *words], cwd=code, check=True)
    return Program(mount, code)


def test_a_run_is_recorded_shown_and_named_by_the_version_that_commits_it(program: Program) -> None:
    mount = program.mount
    (program.directory / "train.py").write_text(TRAINS + "# changed\n")
    done = program("run", "--param", "seed=1", "--", sys.executable, "train.py", mount.path, "out.bin", "--lr", "0.1")
    assert done.stdout == "trained\n"
    assert "r1 ok" in done.stderr
    record = program.record()
    assert record["metrics"] == {"accuracy": 0.93, "loss.a": 1.0}
    assert record["params"] == {"lr": "0.1", "seed": "1"}
    assert record["code"]["branch"] == "trunk"
    assert record["code"]["has_patch"]
    [source] = record["sources"]
    assert (source["known"], source["number"], source["opened"], source["listed"]) == ("working", 1, 3, 1)
    assert {output["path"]: output["place"] for output in record["outputs"]} == {
        "model.pt": "mount",
        str(program.directory / "out.bin"): "outside",
    }
    shown = mount / "@/runs/r1"
    assert sorted(os.listdir(shown / "inputs")) == ["f0", "f1", "f2"]
    assert (shown / "inputs/f1").read_bytes() == (mount / "@v1/f1").read_bytes()
    assert (shown / "outputs/model.pt").read_bytes() == (mount / "model.pt").read_bytes()
    assert (shown / "stdout").read_text() == "trained\n"
    assert json.loads((shown / "run.json").read_text())["id"] == record["id"]
    assert len((shown / "metrics.jsonl").read_text().splitlines()) == 2
    assert "# changed" in (shown / "code.patch").read_text()
    with pytest.raises(OSError, match="Read-only"):
        (shown / "run.json").write_text("")
    program("commit", "-m", "trained")
    assert "by r1" in program("log", "-n", "1").stdout
    assert "r1" in program("show").stdout
    program("commit", "-m", "again", "--allow-empty")
    assert "by r1" not in program("log", "-n", "1").stdout


@pytest.mark.parametrize("knows", ["VFS_RUN", "processes"])
def test_a_version_names_the_run_whose_program_made_it(program: Program, knows: str) -> None:
    (program.directory / "train.sh").write_text(
        "echo model > $DATA/model.pt\n"
        # Without VFS_RUN the daemon knows the run by the tree of processes.
        + ("env -u VFS_RUN " if knows == "processes" else "")
        + "$VFS --repo $DATA commit -m epoch\n"
    )
    program("run", "--", "sh", "train.sh", DATA=str(program.mount.path), VFS=VFS)
    assert "by r1" in program("log", "-n", "1").stdout
    assert "r1" in program("show").stdout
    (program.mount / "readme").write_text("by hand\n")
    program("commit", "-m", "by hand")
    assert "by r1" not in program("log", "-n", "1").stdout


@pytest.mark.parametrize("knows", ["VFS_RUN", "processes"])
def test_an_import_and_a_program_name_the_run_that_they_belong_to(program: Program, knows: str) -> None:
    (program.directory / "new").mkdir()
    (program.directory / "new" / "one").write_text("1")
    lines = [
        "import subprocess, vfs, os",
        *(["del os.environ['VFS_RUN']"] if knows == "processes" else []),
        f"place = {str(program.mount.path)!r}",
        f"subprocess.run([{VFS!r}, '--repo', place, 'import', 'new', '--into', 'new', '-m', 'all'], check=True)",
        "with vfs.open(place) as repo, repo.working() as layer:",
        "    layer.write('two', '2')",
        "    layer.commit('two')",
    ]
    (program.directory / "make.py").write_text("\n".join(lines))
    done = program("run", "--", sys.executable, "make.py")
    assert "ok" in done.stderr, done.stderr
    for place in ("0", "1"):
        assert "by r1" in program("log").stdout.splitlines()[int(place)]


def test_a_repeated_run_is_compared(program: Program) -> None:
    mount = program.mount
    (mount / "f1").write_text("uncommitted\n")
    program("run", "--", sys.executable, "train.py", mount.path, "out.bin")
    assert program.record()["sources"][0]["known"] == "snapshot"
    (mount / "f1").write_text("changed since\n")
    (mount / "model.pt").write_text("other")
    (program.directory / "train.py").write_text("raise SystemExit('other code')")
    done = program("run", "--again", "r1")
    assert "r2 repeats r1: reproduced bit for bit" in done.stderr
    assert (mount / "model.pt").read_text() == "other"
    # The newest content is read where the version is another one.
    worktrees = subprocess.run(["git", "worktree", "list"], cwd=program.directory, capture_output=True, check=True)
    assert len(worktrees.stdout.splitlines()) == 1


def test_two_runs_are_compared(program: Program) -> None:
    mount = program.mount
    program("run", "--", sys.executable, "train.py", mount.path, "../out.bin", "--lr", "0.1")
    (mount / "f1").write_text("changed\n")
    (mount / "unread").write_text("new\n")
    program("commit", "-m", "two")
    program("run", "--", sys.executable, "train.py", mount.path, "../out.bin", "--lr", "0.2")
    text = program("runs", "diff", "r1", "r2").stdout
    assert "main@v1 → main@v2: 3 paths changed, of which r2 opened 1" in text
    assert "same (" in text
    assert "lr 0.1 → 0.2" in text
    difference = json.loads(program("runs", "diff", "r1", "r2", "--json").stdout)
    assert difference["data"]["paths"] == ["f1"]
    assert program("runs", "--read", "v2").stdout.count("\n") == 1
    assert program("runs", "--metric", "accuracy").stdout.count("0.93") == 2


def test_a_pin_beside_the_code_pins_the_run(program: Program) -> None:
    mount = program.mount
    (program.directory / "data.pin").write_text(program("pin", "v1").stdout)
    (program.directory / "other.pin").write_text("no pin")
    (mount / "f1").write_text("changed\n")
    program("commit", "-m", "two")
    below = program.directory / "below"
    below.mkdir()
    words = program.command("run", "--", "python3", "../train.py", mount / "f1")
    done = subprocess.run(words, cwd=below, capture_output=True, text=True, check=False)
    # The program fails, as no file can be written to a version.
    assert "data.pin pins v1" in done.stderr
    assert program.record()["record"]["pinned"] == program.record()["sources"][0]["commit"]
    assert program("run", "--", "cat", mount / "f1").stdout == "1\n" * 300
    assert program("run", "--no-pin", "--", "cat", mount / "f1").stdout == "changed\n"
    assert program("run", "--at", "v2", "--", "cat", mount / "f1").stdout == "changed\n"
    assert program("run", "--at", "r2", "--", "cat", mount / "f1").stdout == "1\n" * 300
    (program.directory / "new.pin").write_text(program("pin", "v2").stdout)
    assert "--no-pin" in program("run", "--", "true", status=2).stderr
    (program.directory / "new.pin").unlink()
    pin = json.loads((program.directory / "data.pin").read_text())
    (program.directory / "data.pin").write_text(json.dumps({**pin, "commit": "ab" * 32}))
    assert "not in this repository" in program("run", "--", "true", status=3).stderr


def test_records_are_removed_and_come_back(program: Program) -> None:
    for _ in range(2):
        program("run", "--", "cat", program.mount / "f1")
    assert "Removed r2" in program("runs", "remove", "r2").stdout
    assert program("runs", "--json").stdout.count("\n") == 1
    assert "r2-" in program("operations", "-n", "1").stdout
    assert "is there again" in program("undo").stdout
    assert os.listdir(program.mount / "@/runs/r2/inputs") == ["f1"]
    assert json.loads(program("runs", "remove", "r1", "r2", "--json").stdout)["removed"][0]["name"] == "r1"
    program("runs", "remove", "r1", status=3)
    program("runs", "remove", status=2)


def test_what_changes_in_a_repository_below_the_current_directory_is_no_output(program: Program) -> None:
    for directory in (program.mount.repository.parent, program.mount.repository):
        subprocess.run(program.command("run", "--", "cat", program.mount / "f1"), cwd=directory, check=True)
        outputs = json.loads(program("runs", "-n", "1", "--json").stdout)["outputs"]
        assert [one["path"] for one in outputs if one["path"].startswith(str(program.mount.repository))] == []


def test_what_another_process_is_writing_is_no_output(program: Program) -> None:
    with (program.directory / "theirs.log").open("w", buffering=1) as theirs:
        script = (
            "echo ours > ours.txt; read -r line; echo more >> ours.txt; exec 3> left.txt; sleep 60 & echo $! > ../left"
        )
        command = program.command("run", "--", "sh", "-c", script)
        with subprocess.Popen(command, cwd=program.directory, stdin=subprocess.PIPE, text=True) as process:
            theirs.write("while the program runs\n")
            process.communicate("go\n", timeout=300)
        os.kill(int((program.directory.parent / "left").read_text()), signal.SIGKILL)
    outputs = program.record()["outputs"]
    assert [Path(output["path"]).name for output in outputs] == ["left.txt", "ours.txt"]


def test_statuses_and_signals_are_the_programs_own(program: Program) -> None:
    program("run", "--", "sh", "-c", "exit 7", status=7)
    program("run", "--", "no-such-program", status=127)
    program("run", "--", str(program.directory), status=126)
    program("run", "--", "sh", "-c", "kill -TERM $$", status=-signal.SIGTERM)
    assert program("run", "--", "cat", "--version").stdout.startswith("cat")
    found = [program.record(f"r{number}")["exit_status"] for number in range(1, 6)]
    assert found == [7, 127, 126, 128 + signal.SIGTERM, 0]
    program("run", status=2)
    program("run", "--at", "v9", "--", "true", status=3)


def test_signals_to_the_command_reach_the_program(program: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = f"trap 'kill $!; exit 9' USR1; echo > {fifo}; tail -f /dev/null & wait $!; kill $!"
    with subprocess.Popen(program.command("run", "--", "bash", "-c", script), cwd=program.directory) as process:
        fifo.read_text()
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 9


def test_the_program_has_the_terminal(program: Program) -> None:
    ours, theirs = pty.openpty()
    script = "test -t 0 && test -t 1 && test -t 2 && read -r line && echo got $line"
    with subprocess.Popen(
        program.command("run", "--", "sh", "-c", script),
        cwd=program.directory,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.write(ours, b"words\n")
        said = b""
        while b"r1 " not in said:
            said += os.read(ours, 4096)
        assert process.wait(60) == 0
    os.close(ours)
    assert b"got words\r\n" in said
    with Repository.open(program.mount.repository) as repo:
        assert b"got words" in (run_file(repo, find_run(repo, "r1"), b"stdout") or b"")


def test_a_pipe_that_closes_ends_the_program(program: Program) -> None:
    command = " ".join(program.command("run", "--", "yes")) + " | head -n 2"
    done = subprocess.run(["bash", "-c", command], cwd=program.directory, capture_output=True, timeout=300, check=True)
    assert done.stdout == b"y\ny\n"


def test_what_is_left_in_the_background_keeps_its_output(program: Program, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = f"(read -r line < {fifo}; echo late $line) & echo soon"
    command = program.command("run", "--", "sh", "-c", script)
    with subprocess.Popen(command, cwd=program.directory, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"soon\n"
        assert process.wait(60) == 0
        fifo.write_text("words\n")
        assert process.stdout.read() == b"late words\n"


def _objects(repo: Repository) -> Iterator[bytes]:
    """Yields the bytes of everything that is stored."""
    for name, size in backend_packs(repo.backend):
        data = repo.backend.read(name.key)
        for block in read_info(repo.backend, name, size).blocks:
            header = parse_header(memoryview(data), block.offset)
            payload = data[block.offset + header.header_bytes : block.offset + header.block_bytes]
            yield from (bytes(plain) for _, plain in open_block(header, payload, repo.store.compression).good)


def test_no_secret_is_in_the_repository(program: Program) -> None:
    secrets = ["hunter2hunter2", "sk-" + "a1B2" * 8, "tokenvalue77", "urlpassword9", "ghp_" + "x" * 30]
    secrets += ["remotepassword8", "keyinaddress" * 2, "hf_" + "y" * 20, "codepassword6", "printed" * 3]
    secrets += ["assigned10", "inparams11", "spoken12", "in/escapes13"]
    remote = f"{WEB}/me:{secrets[5]}@host/code.git"
    subprocess.run(["git", "remote", "add", "origin", remote], cwd=program.directory, check=True)
    changed = f"print('changed')  # {secrets[7]} postgres://me:{secrets[8]}@host\npassword = '{secrets[10]}'\n"
    (program.directory / "train.py").write_text(TRAINS + changed)
    (program.directory / "params.yaml").write_text(f"db:\n  password: {secrets[11]}\n")
    script = f"echo $MY_API_TOKEN; echo {secrets[1]}; echo accuracy=1 > $VFS_METRICS; cat ../printed"
    script += f"; echo {secrets[10]} {secrets[11]} $MY_PASSWORD in%2Fescapes13; echo m_$MY_PASSWORD=2 >> $VFS_METRICS"
    script += "; touch out_$MY_PASSWORD"
    (program.directory.parent / "printed").write_text(f"cloning {WEB}/me:{secrets[9]}@host/x\n")
    program(
        *("run", "--param", f"db_password={secrets[0]}", "--", "sh", "-c", script, "--password", secrets[0]),
        *(f"--api-key={secrets[1]}", f"postgres://me:{secrets[3]}@host/db", f"--dsn={WEB}/{secrets[6]}@host/1"),
        MY_API_TOKEN=secrets[2],
        MY_PASSWORD=secrets[12],
        OTHER_SECRET=secrets[13],
        TORCH_HOME=f"at {secrets[12]}",
        SLURM_JOB_SECRET=secrets[4],
        SLURM_JOB_ID="77",
    )
    record = program.record()
    assert record["environment"]["variables"]["SLURM_JOB_ID"] == "77"
    with Repository.open(program.mount.repository) as repo:
        run = find_run(repo, "r1")
        names = (b"run.json", b"stdout", b"metrics.jsonl", b"packages.txt", b"code.patch")
        stored = b"".join(run_file(repo, run, name) or b"" for name in names)
        stored += b"".join(_objects(repo))
        manifest = load_manifest(repo, run)
    stored += repr(manifest).encode()
    stored += b"".join(path.read_bytes() for path in program.mount.repository.rglob("*") if path.is_file())
    assert [secret for secret in secrets if secret.encode() in stored] == []
    assert "[redacted:" in json.dumps(record["command"])
    assert "+print('changed')  # [redacted:" in (program.mount / "@/runs/r1/code.patch").read_text()
    assert record["code"]["remote"].startswith(f"{WEB}/me:[redacted:")
    # The patch still applies: the secret's line is another one, which is said.
    done = program("run", "--again", "r1", "--", sys.executable, "train.py", program.mount.path, "out.bin")
    assert done.stdout == "trained\nchanged\n"
    assert "a secret in the code's changes is not in the record of r1" in done.stderr


def test_a_private_run_has_no_arguments_directory_host_and_output(program: Program) -> None:
    program("run", "--private", "--", "sh", "-c", f"cat {program.mount / 'f1'}")
    record = program.record()["record"]
    assert record["command"] == ["sh"]
    assert {"cwd", "host", "user", "params"} & record.keys() == set()
    with Repository.open(program.mount.repository) as repo:
        assert run_file(repo, find_run(repo, "r1"), b"stdout") is None
        assert load_record(repo, find_run(repo, "r1")).sources[0].opened == 1
    assert "private" in program("run", "--again", "r1", status=2).stderr


def test_a_running_run_is_named_by_status_and_umount(program: Program, tmp_path: Path) -> None:
    fifo, told = tmp_path / "fifo", tmp_path / "told"
    os.mkfifo(fifo)
    os.mkfifo(told)
    script = f"echo > {told}; read -r line < {fifo}"
    with subprocess.Popen(program.command("run", "--", "sh", "-c", script), cwd=program.directory) as process:
        told.read_text()
        assert "r1 is running: sh -c" in program("status").stdout
        refused = subprocess.run([VFS, "umount", program.mount.path], capture_output=True, text=True, check=False)
        assert refused.returncode == 4
        assert "r1 is running" in refused.stderr
        assert program.record()["status"] == "running"
        fifo.write_text("go\n")
        assert process.wait(60) == 0
    assert program.record()["status"] == "ok"


def test_a_run_without_a_mount_says_what_it_could_not_record(program: Program) -> None:
    program.mount.end()
    words = [VFS, "--repo", str(program.mount.repository), "run", "--", "true"]
    subprocess.run(words, cwd=program.directory, capture_output=True, check=True)
    with Repository.open(program.mount.repository) as repo:
        record = load_record(repo, find_run(repo, "r1"))
    assert not record.is_observed
    assert "not in this record" in record.notes[0]


def test_other_versions_by_their_names_and_equal_files(program: Program) -> None:
    mount = program.mount
    (mount / "f1").write_text("changed\n")
    program("commit", "-m", "two")
    program("run", "--", "cat", mount / "@v2/f0", mount / "@v2/f1", mount / "@v1/f1")
    sources = {source["number"]: source for source in program.record()["sources"]}
    assert sources[2]["known"] == "seen"
    # `f0` is the same in both.
    assert (sources[1]["opened"], sources[1]["shared"]) == (2, 1)
    assert (sources[2]["opened"], sources[2]["shared"]) == (2, 1)


def test_threads_that_run_beside_each_other_get_numbers_of_their_own(program: Program) -> None:
    threads = [threading.Thread(target=program, args=("run", "--", "cat", program.mount / f"f{n}")) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    documents = [json.loads(line) for line in program("runs", "--json").stdout.splitlines()]
    assert [document["name"] for document in documents] == ["r3", "r2", "r1"]
    assert [document["sources"][0]["opened"] for document in documents] == [1, 1, 1]
