"""Commands on an unmounted repository: what they print, for people and for scripts, and how they end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from vfs.cli.main import main
from vfs.repo.repository import Repository
from vfs.store.packs.compression import NODE_BLOCKS

Run = Callable[..., str]


@pytest.fixture
def author(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VFS_AUTHOR", "ann@lab")
    monkeypatch.delenv("VFS_REPO", raising=False)
    return "ann@lab"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two versions' worth of data; the fixture `run` commits the first one, `second` the other."""
    directory = tmp_path / "data"
    (directory / "images").mkdir(parents=True)
    (directory / "labels.csv").write_bytes(b"1.png,cat\n2.png,cta\n")
    for number in range(3):
        (directory / "images" / f"{number}.png").write_bytes(bytes([number]) * 3000)
    (directory / "link").symlink_to("labels.csv")
    return directory


@pytest.fixture
def run(tmp_path: Path, data: Path, author: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command in a repository with one version, checks its status, gives its output."""
    repository = tmp_path / "repo"

    def call(*words: str, status: int = 0) -> str:
        found = main(["--repo", str(repository), *words])
        captured = capsys.readouterr()
        assert found == status, captured.err
        return captured.out

    assert main(["init", str(repository)]) == 0
    capsys.readouterr()
    assert re.fullmatch(r"v1 [0-9a-f]{8}\n", call("import", str(data), "-m", "first import"))
    return call


def second(run: Run, data: Path) -> str:
    (data / "labels.csv").write_bytes(b"1.png,cat\n2.png,cat\n3.png,dog\n")
    (data / "images" / "0.png").unlink()
    (data / "more").mkdir()
    (data / "more" / "new").write_bytes(b"n")
    return run("import", str(data), "-m", "repaired\n\nwith a second line")


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_log_as_json_is_one_object_a_version_newest_first(run: Run, data: Path) -> None:
    second(run, data)
    newer, older = objects(run("log", "--json"))
    assert {"version", "id", "parents", "time", "author", "message"} <= set(newer)
    assert (newer["version"], older["version"]) == ("v2", "v1")
    assert newer["parents"] == [older["id"]]
    assert older["parents"] == []
    assert newer["message"] == "repaired\n\nwith a second line"
    assert newer["author"] == "ann@lab"
    assert datetime.fromisoformat(newer["time"]) >= datetime.fromisoformat(older["time"])
    assert re.fullmatch(r"[0-9a-f]{64}", newer["id"])


def test_log_is_one_line_a_version_with_its_tags(run: Run, data: Path) -> None:
    second(run, data)
    run("tag", "paper", "v1")
    newer, older = run("log").splitlines()
    assert re.match(
        r"v2  [0-9a-f]{8}  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}  ann@lab  5 files  .*  repaired$", newer
    )
    assert older.endswith("(paper) first import")
    assert run("log", "-n", "1").splitlines() == [newer]
    assert "with a second line" in run("log", "--full")


def test_log_of_a_path_has_the_versions_that_changed_it(run: Run, data: Path) -> None:
    second(run, data)
    (data / "images" / "1.png").write_bytes(b"other")
    run("import", str(data), "-m", "third")
    assert [each["version"] for each in objects(run("log", "--json", "labels.csv"))] == ["v2", "v1"]
    assert [each["version"] for each in objects(run("log", "--json", "images"))] == ["v3", "v2", "v1"]
    assert [each["version"] for each in objects(run("log", "--json", "more/new"))] == ["v2"]
    assert [each["version"] for each in objects(run("log", "--json", "images/0.png"))] == ["v2", "v1"]
    assert run("log", "absent", status=3) == ""


def test_diff_as_json_is_one_object_a_changed_path(run: Run, data: Path) -> None:
    second(run, data)
    changes = {each["path"]: each for each in objects(run("diff", "v1", "v2", "--json", status=1))}
    assert {path: change["change"] for path, change in changes.items()} == {
        "images/0.png": "removed",
        "labels.csv": "modified",
        "more": "added",
        "more/new": "added",
    }
    assert changes["labels.csv"]["old"]["size"] == 20
    assert "content" in changes["labels.csv"]["what"]


def test_diff_exits_with_1_for_differences_and_0_for_none(run: Run, data: Path) -> None:
    second(run, data)
    assert run("diff", "v1", "v1") == ""
    assert run("diff", "v1", "v2", "link") == ""
    assert run("diff", "-q", "v1", "v2", status=1) == ""
    text = run("diff", "v1", "v2", "more", status=1)
    assert text.splitlines() == ["A  more/  1 file, 1 B", "2 added; 0 B → 1 B"]


def test_listings_show_names_and_details(run: Run) -> None:
    assert run("ls").splitlines() == ["images/", "labels.csv", "link"]
    assert run("ls", "v1", "images").splitlines() == ["0.png", "1.png", "2.png"]
    assert run("ls", "-r", "v1").splitlines()[:2] == ["images/", "images/0.png"]
    long = run("ls", "-l", "v1").splitlines()
    assert long[0].startswith("drwx")
    assert long[2].endswith("link -> labels.csv")
    (entry,) = objects(run("ls", "--json", "v1", "labels.csv"))
    assert (entry["path"], entry["type"], entry["size"]) == ("labels.csv", "file", 20)


def test_cat_prints_files_of_any_version(run: Run, data: Path) -> None:
    second(run, data)
    assert run("cat", "v1", "labels.csv", "images/1.png") == "1.png,cat\n2.png,cta\n" + "\1" * 3000
    run("cat", "v1", "images", status=3)
    run("cat", "v1", "absent", status=3)


def test_du_sums_directories(run: Run) -> None:
    rows = [line.split() for line in run("du", "v1").splitlines()]
    assert rows[0] == ["8.8", "KiB", "3", "files", "images/"]
    assert rows[-1][-1] == "all"


def test_show_describes_versions_and_entries(run: Run, data: Path) -> None:
    second(run, data)
    text = run("show", "v2")
    assert "repaired" in text
    assert "Since v1: 2 added, 1 modified, 1 removed" in text
    assert "M  labels.csv" in text
    entry = run("show", "v1", "labels.csv")
    assert re.search(r"^size +20 B$", entry, re.MULTILINE)
    assert objects(run("show", "--json"))[0]["version"] == "v2"


def test_tags_name_move_list_and_go(run: Run, data: Path) -> None:
    second(run, data)
    assert re.fullmatch(r"paper names v2 [0-9a-f]{8}\n", run("tag", "paper"))
    run("tag", "paper", "v1", status=3)
    run("tag", "--force", "paper", "v1")
    assert [each["version"] for each in objects(run("tag", "--json"))] == ["v1"]
    assert run("cat", "paper", "labels.csv") is not None
    run("tag", "--delete", "paper")
    assert run("tag") == ""
    run("tag", "v7", "v1", status=2)
    run("tag", "--delete", status=2)


def test_unknown_version_names_those_there_are(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("ls", "v9", status=3)
    assert main(["--repo", "absent", "ls"]) == 3
    assert "vfs: no repository at absent" in capsys.readouterr().err


def test_repository_may_stand_after_the_verb(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "--json", "-R", str(tmp_path / "repo")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_export_gives_back_what_was_imported(run: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("export", "v1", str(out)).startswith("Exported v1 to ")
    for path in sorted(data.rglob("*")):
        copy = out / path.relative_to(data)
        assert copy.lstat().st_mtime_ns == path.lstat().st_mtime_ns
        assert copy.lstat().st_mode == path.lstat().st_mode
        if path.is_file():
            assert copy.read_bytes() == path.read_bytes()
    run("export", "v1", str(out), status=3)


def test_init_refuses_a_directory_with_something_in_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(data)]) == 3
    assert "not empty" in capsys.readouterr().err


def test_a_compact_repository_says_so_in_its_features(tmp_path: Path) -> None:
    for words, features in (([], ()), (["--compact"], (NODE_BLOCKS,))):
        path = tmp_path / f"made{len(words)}"
        assert main(["init", *words, str(path)]) == 0
        with Repository.open(path) as repo:
            assert repo.config.features == features


def test_import_of_the_same_again_commits_nothing(run: Run, data: Path) -> None:
    run("import", str(data), "-m", "again", status=1)
    assert len(objects(run("log", "--json"))) == 1


def test_status_of_a_clean_repository_exits_with_0(run: Run) -> None:
    assert "Nothing to commit" in run("status")
    (status,) = objects(run("status", "--json"))
    assert (status["version"], status["clean"], status["changes"]) == ("v1", True, [])


def test_commit_without_changes_or_message_says_so(run: Run) -> None:
    run("commit", "-m", "nothing", status=1)
    run("commit", status=2)
    run("commit", "-m", "  ", status=2)


def test_restore_fills_the_working_layer_and_commit_keeps_it(run: Run, data: Path) -> None:
    second(run, data)
    run("restore", "v1", "labels.csv")
    (status,) = objects(run("status", "--json"))
    assert [(each["path"], each["change"]) for each in status["changes"]] == [("labels.csv", "modified")]
    assert [each["path"] for each in objects(run("diff", "--json", status=1))] == ["labels.csv"]
    assert run("diff", "v1", status=1).splitlines()[-1].startswith("2 added, 1 removed")
    assert re.fullmatch(r"v3 [0-9a-f]{8}\n", run("commit", "-m", "the old labels"))
    assert run("diff", "v1", "v3", "labels.csv") == ""


def test_stats_are_metrics_of_prometheus(run: Run, tmp_path: Path) -> None:
    lines = run("stats", "--prometheus").splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    label = r'\w+="(?:[^"\\\n]|\\[\\n"])*"'
    sample = re.compile(rf"(vfs_\w+)\{{{label}(?:,{label})*\}} (\d+)")
    found = {line.rpartition(" ")[0]: int(match[2]) for line in samples if (match := sample.fullmatch(line))}
    assert len(found) == len(samples)
    repository = f'repository="{tmp_path}/repo"'
    assert found[f"vfs_versions{{{repository}}}"] == 1
    assert found[f'vfs_stored_bytes{{{repository},kind="data"}}'] > 0
    assert found[f'vfs_mounts{{{repository},state="live"}}'] == 0
    # Each metric is described once, before its samples.
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert names == list(dict.fromkeys(line.partition("{")[0] for line in samples))
    run("stats", "--prometheus", "--json", status=2)


def test_fsck_and_stats_report(run: Run, tmp_path: Path) -> None:
    assert "All is well" in run("fsck", "--read-data")
    assert "contents not read" in run("fsck", str(tmp_path / "repo"))
    (stats,) = objects(run("stats", "--json"))
    assert stats["versions"] == 1


def test_fsck_names_damage_and_exits_with_1(run: Run, tmp_path: Path) -> None:
    pack = next((tmp_path / "repo" / "packs" / "tree").rglob("*.pack"))
    damaged = bytearray(pack.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(damaged)
    text = run("fsck", "--read-data", status=1)
    assert text
