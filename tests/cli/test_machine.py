"""What `vfs doctor` and `vfs mounts` say, on this machine and with parts of it taken away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import mounted
from support.repositories import Repositories
from vfs.cli.main import main
from vfs.cli.mounting import machine


def findings_by_name(output: str) -> dict[str, dict[str, str]]:
    return {found["name"]: found for found in map(json.loads, output.splitlines())}


@pytest.mark.mount
def test_a_machine_that_mounts_lacks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    assert main(["doctor", "--json"]) == 0
    found = findings_by_name(capsys.readouterr().out)
    assert {each["state"] for each in found.values()} <= {"ok", "optional"}
    assert found["a mount"]["text"].startswith("made and ended; protocol 7.")
    assert "vfs-doctor" not in Path("/proc/self/mountinfo").read_text()
    assert "vfs-doctor" not in before
    assert main(["doctor"]) == 0
    assert "Repositories can be mounted here." in capsys.readouterr().out


def test_without_the_device_mounts_are_missing_with_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_DEVICE", str(tmp_path / "fuse"))
    assert main(["doctor", "--json"]) == 6
    found = findings_by_name(capsys.readouterr().out)
    assert found[str(tmp_path / "fuse")]["state"] == found["a mount"]["state"] == "missing"
    assert "modprobe fuse" in found[str(tmp_path / "fuse")]["advice"]


def test_without_zstd_it_says_what_python_reads(tmp_path: Path) -> None:
    (tmp_path / "libzstd.so.1").write_text("no library")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "vfs", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = findings_by_name(done.stdout)["native layer"]
    assert found["state"] == "optional"
    assert "libzstd.so.1" in found["text"]


def test_without_the_extra_it_says_how_to_install_it() -> None:
    program = (
        "import sys; sys.modules['pyfuse3'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'pyfuse3' else find(name, *rest)\n"
        "from vfs.cli.main import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "[mount]: pip install 'vfs-versions[mount]'" in done.stdout


@pytest.mark.mount
def test_mounts_says_which_are_live_stopped_and_dead(
    repositories: Repositories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = repositories.make()
    repo.close()

    def state(path: Path) -> dict[str, object]:
        capsys.readouterr()
        assert main(["mounts", "--json"]) == 0
        (found,) = [each for each in map(json.loads, capsys.readouterr().out.splitlines()) if each["path"] == str(path)]
        return dict(found)

    path = tmp_path / "a b"
    with mounted(repo.path, path) as mount:
        found = state(path)
        assert found["state"] == "live"
        assert found["repository"] == str(repo.path)
        assert found["branch"] == "main"
        process = found["process"]
        assert isinstance(process, int)
        os.kill(process, signal.SIGSTOP)
        assert state(path)["state"] == "stopped"
        os.kill(process, signal.SIGCONT)
        assert state(path)["state"] == "live"
        os.kill(process, signal.SIGKILL)
        mount.process.wait()
        assert (state(path)["state"], state(path)["process"]) == ("dead", None)
        assert main(["mounts"]) == 0
        assert "dead" in capsys.readouterr().out
