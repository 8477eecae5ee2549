"""`vfs bisect` on real mounts: versions, changes inside one, rows inside those; noise, skips, interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.histories import add_graph, add_versions
from support.mounts import mounted
from support.repositories import Repositories
from support.shell import Shell
from vfs.cli.runs.trial_runs import duration_text
from vfs.repo.repository import Repository

pytestmark = pytest.mark.mount

Prepare = Callable[[Callable[[Repository], object]], "Lab"]


class Lab:
    """A mounted repository, and how often a command ran."""

    def __init__(self, directory: Path, shell: Shell, repository: Path) -> None:
        self.directory = directory
        self.shell = shell
        self.repository = repository
        self.log = directory / "runs"

    def bisect(self, good: str, bad: str, script: str, *options: str, status: int = 0) -> dict[str, Any]:
        """Runs a bisection by a shell script and returns its result; the current directory is not in the mount."""
        done = self.run(good, bad, script, *options)
        assert done.returncode == status, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def run(self, good: str, bad: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Runs `vfs bisect --json`."""
        self.log.unlink(missing_ok=True)
        words = ["bisect", "--repo", str(self.repository), "--good", good, "--bad", bad, "--json", *options]
        return self.shell.run(*words, "--", "sh", "-c", f'echo >> "{self.log}"\n{script}')

    @property
    def runs(self) -> int:
        """How often the command ran."""
        return len(self.log.read_text().splitlines())


@pytest.fixture
def lab(repositories: Repositories, tmp_path: Path) -> Iterator[Prepare]:
    """Makes a repository with a history, and mounts it."""
    stack = []

    def prepare(fill: Callable[[Repository], object]) -> Lab:
        repo = repositories.make()
        fill(repo)
        repo.close()
        mount = mounted(repo.path, tmp_path / "mnt")
        mount.__enter__()
        stack.append(mount)
        return Lab(tmp_path, Shell(tmp_path), repo.path)

    yield prepare
    for mount in stack:
        mount.__exit__(None, None, None)


def thousand(repo: Repository) -> None:
    """1,000 versions of which each changes one file."""
    add_versions(repo, ({b"data/number": b"%d" % number, b"other": b"x"} for number in range(1, 1001)))


def test_a_thousand_versions_in_ten_runs_and_nothing_copied(lab: Prepare) -> None:
    made = lab(thousand)
    packs = sorted(path for path in made.repository.rglob("*") if path.suffix == ".pack")
    found = made.bisect("v1", "v1000", 'test "$(cat {data}/data/number)" -lt 617', "--versions-only")["result"]
    assert found["version"] == "v617"
    assert made.runs == found["runs"] <= 10
    assert sorted(path for path in made.repository.rglob("*") if path.suffix == ".pack") == packs


def test_versions_that_are_the_same_for_the_command_are_not_run(lab: Prepare) -> None:
    """Of 1,000 versions 30 change the file that the command reads; the other changes are beside it."""
    relevant = set(range(20, 1000, 33))

    def fill(repo: Repository) -> None:
        last = 1
        trees = []
        for number in range(1, 1001):
            last = number if number in relevant else last
            trees.append({b"data/number": b"%d" % last, b"more/other": b"%d" % number})
        add_versions(repo, trees)

    made = lab(fill)
    assert len(relevant) == 30
    found = made.bisect("v1", "v1000", 'test "$(cat "$VFS_DATA/data/number")" -lt 614')["result"]
    assert found["version"] == "v614"
    assert [change["paths"] for change in found["changes"]] == [["data/number"]]
    assert made.runs == found["runs"] <= 7


def wide(bad: dict[bytes, bytes]) -> Callable[[Repository], None]:
    """Two versions between which 1,000 files changed; some have a bad text."""

    def fill(repo: Repository) -> None:
        names = [b"d%d/f%03d" % (number % 7, number) for number in range(1000)]
        after = {name: b"new " + name for name in names} | bad
        add_versions(repo, [{name: b"old " + name for name in names}, after])

    return fill


def test_one_bad_of_a_thousand_files_in_eleven_runs(lab: Prepare) -> None:
    made = lab(wide({b"d3/f612": b"rotten"}))
    found = made.bisect("v1", "v2", "! grep -rq rotten {data}")["result"]
    assert [change["paths"] for change in found["changes"]] == [["d3/f612"]]
    assert found["of"] == 1000
    assert made.runs == found["runs"] <= 11


def test_two_that_must_meet_in_twenty_two_runs_and_their_rows(lab: Prepare) -> None:
    def fill(repo: Repository) -> None:
        rows = [b"%d,cat\n" % number for number in range(50)]
        before = {b"d/f%03d" % number: b"old" for number in range(998)}
        old = before | {b"labels.csv": b"id,label\n" + b"".join(rows), b"model/scale": b"1"}
        rows[20] = b"20,dog\n"
        new = dict.fromkeys(before, b"new")
        add_versions(repo, [old, new | {b"labels.csv": b"id,label\n" + b"".join(rows), b"model/scale": b"2"}])

    made = lab(fill)
    script = "! { grep -q 20,dog {data}/labels.csv && grep -q 2 {data}/model/scale; }"
    found = made.bisect("v1", "v2", script)["result"]
    assert [change["paths"] for change in found["changes"]] == [["labels.csv"], ["model/scale"]]
    assert made.runs <= 22
    assert [(row["new_row"], row["old"], row["new"]) for row in found["changes"][0]["rows"]] == [
        (22, "20,cat\n", "20,dog\n")
    ]


def test_rows_of_a_table_are_named(lab: Prepare) -> None:
    def table(repo: Repository) -> None:
        old = [b"%d,cat\n" % number for number in range(230)]
        new = [row.replace(b"cat", b"dog") if 100 <= number < 200 else row for number, row in enumerate(old)]
        add_versions(repo, [{b"labels.csv": b"id,label\n" + b"".join(rows)} for rows in (old, new)])

    made = lab(table)
    done = made.shell(
        "bisect",
        "-R",
        str(made.repository),
        "--good",
        "v1",
        "--bad",
        "v2",
        "--",
        "sh",
        "-c",
        "! grep -q 150,dog {data}/labels.csv",
    )
    assert "v2" in done
    assert "row 152, of 100 changed rows" in done
    assert "150,cat → 150,dog" in done


def parquet(directory: Path, query: str) -> bytes:
    """Returns a Parquet file with the rows of a query."""
    path = directory / "made.parquet"
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
    return path.read_bytes()


def test_rows_of_parquet_are_named(lab: Prepare, tmp_path: Path) -> None:
    labels = "SELECT i AS id, {} AS label FROM range(40) t(i)"
    old = parquet(tmp_path, labels.format("'cat'"))
    new = parquet(tmp_path, labels.format("CASE WHEN i BETWEEN 4 AND 19 THEN 'dog' ELSE 'cat' END"))
    made = lab(lambda repo: add_versions(repo, [{b"labels.parquet": data} for data in (old, new)]))
    program = tmp_path / "test.py"
    program.write_text(
        "import duckdb, sys\n"
        "found = duckdb.execute('SELECT label FROM read_parquet(?) WHERE id = 15', [sys.argv[1]]).fetchall()\n"
        "sys.exit(found != [('cat',)])\n"
    )
    done = made.run("v1", "v2", f"{sys.executable} {program} {{data}}/labels.parquet")
    [change] = json.loads(done.stdout.splitlines()[-1])["result"]["changes"]
    assert change["rows"] == [{"old_row": 16, "new_row": 16, "old": '15, "cat"', "new": '15, "dog"'}]
    assert change["rows_unknown"] is None


def test_where_rows_cannot_be_told_apart_the_reason_is_said(lab: Prepare, tmp_path: Path) -> None:
    old, new = (parquet(tmp_path, f"SELECT 1 AS id, 2 AS {name}") for name in ("before", "after"))
    trees = [{b"t.parquet": old, b"model": b"\0old"}, {b"t.parquet": new, b"model": b"\0new"}]
    made = lab(lambda repo: add_versions(repo, trees))
    script = "! { grep -q after {data}/t.parquet && grep -q new {data}/model; }"
    changes = made.bisect("v1", "v2", script)["result"]["changes"]
    assert [(change["paths"], change["rows"], change["rows_unknown"]) for change in changes] == [
        (["model"], [], "it is neither text nor Parquet"),
        (["t.parquet"], [], "its columns changed"),
    ]


def test_a_metric_with_noise_is_judged_by_repeats(lab: Prepare) -> None:
    """The metric goes up and down by 0.02 from run to run, and falls by 0.03 with version 6."""
    made = lab(lambda repo: add_versions(repo, ({b"n": b"%d" % number} for number in range(1, 11))))
    script = f"""
n=$(cat {{data}}/n); i=$(wc -l < "{made.log}"); base=9300; test "$n" -ge 6 && base=9000
case $((i % 3)) in 0) base=$((base + 20));; 1) base=$((base - 20));; esac
echo "accuracy=0.$base" >> "$VFS_METRICS"
"""
    found = made.bisect("v1", "v10", script, "--metric", "accuracy", "--drop", "0.015", "--repeat", "3")["result"]
    assert found["version"] == "v6"
    assert found["unsure"] == 0
    text = made.shell.run(
        "bisect",
        "-R",
        str(made.repository),
        "--good",
        "v1",
        "--bad",
        "v5",
        "--metric",
        "accuracy",
        "--drop",
        "0.01",
        "--",
        "sh",
        "-c",
        f'echo >> "{made.log}"\n{script}',
    )
    assert text.returncode == 2
    assert "v5 is not bad" in text.stderr
    text = made.shell.run(
        "bisect",
        "-R",
        str(made.repository),
        "--good",
        "v1",
        "--bad",
        "v5",
        "--metric",
        "loss",
        "--",
        "sh",
        "-c",
        f'echo >> "{made.log}"\n{script}',
    )
    assert "no metric 'loss'; it reported accuracy" in text.stderr


def test_skipped_versions_are_said_and_a_broken_command_ends_it(lab: Prepare) -> None:
    made = lab(lambda repo: add_versions(repo, ({b"n": b"%d" % number} for number in range(1, 9))))
    script = 'n=$(cat {data}/n); case $n in 4|5) exit 125;; esac; test "$n" -lt 5'
    found = made.bisect("v1", "v8", script, status=1)
    assert [suspect["version"] for suspect in found["suspects"]] == ["v4", "v5", "v6"]
    done = made.run("v1", "v8", "kill -9 $$")
    assert done.returncode == 3
    assert "ended by signal 9" in done.stderr
    done = made.run("v8", "v1", "true")
    assert "is older than a good version" in done.stderr


def test_an_interrupted_bisection_goes_on(lab: Prepare) -> None:
    made = lab(lambda repo: add_versions(repo, ({b"n": b"%d" % number} for number in range(1, 65))))
    stop = made.directory / "stop"
    stop.touch()
    script = f"""
test -e "{stop}" && test "$(wc -l < "{made.log}")" -ge 3 && kill -INT $PPID && kill -INT $$
test "$(cat {{data}}/n)" -lt 41
"""
    done = made.run("v1", "v64", script)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "goes on from there" in done.stderr
    stop.unlink()
    found = made.bisect("v1", "v64", script)["result"]
    assert found["version"] == "v41"
    assert made.runs == found["runs"] == 4
    assert made.bisect("v1", "v64", script)["result"]["runs"] == 6


def test_branches_and_merges_are_walked_as_git_does(lab: Prepare) -> None:
    """v1 - v2 - v3 - merge, and from v1 a side with the culprit in its middle."""
    tree = {b"n": b"0"}
    bad = {b"n": b"0", b"bad": b""}
    graph = [
        (tree, None),
        (tree | {b"a": b""}, [0]),
        (tree | {b"a": b"", b"b": b""}, [1]),
        (tree | {b"s": b"1"}, [0]),
        (bad | {b"s": b"1"}, [3]),
        (bad | {b"s": b"2"}, [4]),
        (bad | {b"a": b"", b"b": b"", b"s": b"2"}, [2, 5]),
    ]
    ids = []
    made = lab(lambda repo: ids.extend(add_graph(repo, graph)))
    found = made.bisect("v1", "latest", "test ! -e {data}/bad")["result"]
    assert found["commit"] == ids[4].hex()
    assert [change["paths"] for change in found["changes"]] == [["bad"]]


def test_without_a_mount_one_is_made_for_the_time(repositories: Repositories, tmp_path: Path) -> None:
    repo = repositories.make()
    add_versions(repo, ({b"n": b"%d" % number} for number in range(1, 5)))
    repo.close()
    shell = Shell(tmp_path)
    said = shell(
        "bisect",
        "-R",
        str(repo.path),
        "--good",
        "v1",
        "--bad",
        "v4",
        "--",
        "sh",
        "-c",
        'test "$(cat $VFS_DATA/n)" -lt 3',
    )
    assert "v3" in said
    assert "n (modified)" in said
    assert str(repo.path) not in Path("/proc/self/mountinfo").read_text()


def test_durations_are_short_words() -> None:
    assert [duration_text(seconds) for seconds in (0.21, 59, 190, 7500)] == ["0.2 s", "59 s", "3 min 10 s", "2 h 5 min"]


def test_two_runs_stand_for_their_versions_and_the_second_for_its_command(lab: Prepare) -> None:
    made = lab(lambda repo: add_versions(repo, ({b"n": b"%d" % number, b"m": b"x"} for number in range(6))))
    script = 'n=$(cat {data}/n); echo "acc=$(test $n -lt 3 && echo 0.9 || echo 0.5)" > $VFS_METRICS'
    for version in ("v2", "v5"):
        made.shell("--repo", str(made.repository), "run", "--at", version, "--", "sh", "-c", script)
    words = ["bisect", "--repo", str(made.repository), "--metric", "acc", "--json", "--versions-only"]
    done = made.shell.run(*words, "r1", "r2", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["result"]["version"] == "v4"
    done = made.shell.run(*words, "--good", "r1", "--bad", "v5", "--", "sh", "-c", script)
    assert json.loads(done.stdout.splitlines()[-1])["result"]["version"] == "v4"
    assert made.shell.run(*words, "--good", "r9", "--bad", "v5", "--", "true").returncode == 3
    assert made.shell.run(*words, "--good", "r1", "--bad", "v5").returncode == 2
    assert made.shell.run(*words, "r1", "--", "true").returncode == 2
