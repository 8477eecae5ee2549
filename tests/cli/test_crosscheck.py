"""`vfs crosscheck` with real versions and real git commits: five planted causes, and noise."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.histories import add_versions
from support.mounts import mounted
from support.repositories import Repositories
from support.shell import Shell

pytestmark = pytest.mark.mount

SCORE = """
echo >> "COUNTER"
d=$(cat "$VFS_DATA/quality") c=QUALITY n=$(wc -l < "COUNTER")
echo "score=$((100 - (RULE) + (NOISE)))" >> "$VFS_METRICS"
"""


class Scene:
    """A mounted repository with versions of good and bad data, and a git repository with two commits of the code."""

    def __init__(self, directory: Path, repository: Path) -> None:
        self.shell = Shell(directory)
        self.repository = repository
        self.code = directory / "code"
        self.code.mkdir()
        self.git("init", "-q")

    def git(self, *words: str) -> str:
        """Runs git on the code."""
        options = ["-c", "user.name=ann", "-c", "user.email=ann@lab", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *options, *words], cwd=self.code, check=True, capture_output=True, text=True
        ).stdout

    def commit(self, quality: int, rule: str, noise: str) -> str:
        """Commits a version of the code."""
        (self.code / "score.sh").write_text(
            SCORE.replace("QUALITY", str(quality))
            .replace("RULE", rule)
            .replace("NOISE", noise)
            .replace("COUNTER", str(self.code.parent / "count"))
        )
        self.git("add", ".")
        self.git("commit", "-q", "--allow-empty", "-m", "code")
        return self.git("rev-parse", "HEAD").strip()

    def verdict(self, qualities: tuple[int, int], rule: str, noise: str = "0", repeat: int = 2) -> str:
        """Crosschecks old and new data (v1, v2) with two commits of the code."""
        commits = [self.commit(quality, rule, noise) for quality in qualities]
        words = ["--data", "v1", "v2", "--code", *commits, "--metric", "score", "--repeat", str(repeat), "--json"]
        said = self.shell("crosscheck", "-R", str(self.repository), *words, "--", "sh", "score.sh", cwd=self.code)
        assert self.git("worktree", "list").count("\n") == 1
        return str(json.loads(said)["verdict"])


@pytest.fixture
def scene(repositories: Repositories, tmp_path: Path) -> Iterator[Scene]:
    """Mounts a repository with two versions, the second one worse."""
    repo = repositories.make()
    add_versions(repo, [{b"quality": b"0"}, {b"quality": b"1"}])
    repo.close()
    with mounted(repo.path, tmp_path / "mnt"):
        yield Scene(tmp_path, repo.path)


@pytest.mark.parametrize(
    ("verdict", "qualities", "rule"),
    [
        ("data", (0, 1), "5 * d"),
        ("code", (0, 1), "5 * c"),
        ("both", (0, 1), "5 * d + 4 * c"),
        ("interaction", (0, 1), "5 * d * c"),
        ("nothing", (0, 1), "0 * d"),
    ],
)
def test_the_planted_cause_is_blamed(scene: Scene, verdict: str, qualities: tuple[int, int], rule: str) -> None:
    assert scene.verdict(qualities, rule) == verdict


def test_noise_larger_than_the_effect_cannot_tell(scene: Scene) -> None:
    """Runs of one pair differ by 40, whatever data and code are; the data's effect is 5."""
    assert scene.verdict((0, 1), "5 * d", "20 - 40 * (n % 2)", repeat=3) == "cannot tell"


def test_models_are_files_and_the_table_is_printed(scene: Scene) -> None:
    for name, text in (("old.pt", "90"), ("new.pt", "80")):
        (scene.code / name).write_text(text)
    said = scene.shell.run(
        "crosscheck",
        "-R",
        str(scene.repository),
        "--data",
        "v1",
        "v2",
        "--model",
        "old.pt",
        "new.pt",
        "--metric",
        "m",
        "--",
        "sh",
        "-c",
        'echo "m=$(cat {model})" > "$VFS_METRICS"; test "$VFS_MODEL" = {model}',
        cwd=scene.code,
    )
    assert said.returncode == 0, said.stderr
    assert "The model: it moves m by -10 with either data" in said.stdout
    assert "model old.pt  90" in said.stdout


def test_an_interrupted_crosscheck_goes_on(scene: Scene) -> None:
    commits = [scene.commit(quality, "5 * d", "0") for quality in (0, 1)]
    log, stop = scene.code.parent / "log", scene.code.parent / "stop"
    stop.touch()
    script = f"""
test -e "{stop}" && test "$(wc -l < "{log}")" -ge 3 && kill -INT $PPID && kill -INT $$
echo >> "{log}"; . {{code}}/score.sh
"""
    words = ["-R", str(scene.repository), "--data", "v1", "v2", "--code", *commits, "--metric", "score", "--json"]
    command = ["crosscheck", *words, "--repeat", "2", "--", "sh", "-c", script]
    log.touch()
    done = scene.shell.run(*command, cwd=scene.code)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "goes on from there" in done.stderr
    stop.unlink()
    done = scene.shell.run(*command, cwd=scene.code)
    assert json.loads(done.stdout)["verdict"] == "data", done.stderr
    assert "3 runs of an interrupted crosscheck count" in done.stderr
    assert len(log.read_text().splitlines()) == 8
    # The answer was given: the same question is asked anew.
    scene.shell.run(*command, cwd=scene.code)
    assert len(log.read_text().splitlines()) == 16


def test_misuse_says_what_to_do(scene: Scene) -> None:
    base = ["crosscheck", "-R", str(scene.repository), "--data", "v1", "v2", "--metric", "m"]
    done = scene.shell.run(*base, "--", "true", cwd=scene.code)
    assert done.returncode == 2
    scene.commit(0, "0", "0")
    done = scene.shell.run(*base, "--code", "HEAD", "nowhere", "--", "true", cwd=scene.code)
    assert done.returncode == 3
    assert "no commit 'nowhere'" in done.stderr
    done = scene.shell.run(*base, "--code", "HEAD", "HEAD", "--", "false", cwd=scene.code)
    assert "ended with status 1" in done.stderr
    done = scene.shell.run(*base, "--code", "HEAD", "HEAD", "--", "true")
    assert "git rev-parse" in done.stderr
    assert scene.git("worktree", "list").count("\n") == 1
