"""merge, undo, operations, describe and amend on an unmounted repository: what people and scripts get to see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.lines import put
from vfs.cli.main import main
from vfs.repo.repository import Repository

Run = Callable[..., str]
TEXT = b"one\ntwo\nthree\n"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VFS_AUTHOR", "ann@lab")
    monkeypatch.delenv("VFS_REPO", raising=False)
    return tmp_path / "repo"


@pytest.fixture
def run(repository: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a repository with one version and a branch `exp`; checks its status and gives its output."""

    def call(*words: str, status: int = 0, stderr: str | None = None) -> str:
        found = main(["--repo", str(repository), *words])
        captured = capsys.readouterr()
        assert found == status, (captured.out, captured.err)
        if stderr is not None:
            assert stderr in captured.err
        return captured.out

    assert main(["init", str(repository)]) == 0
    capsys.readouterr()
    write(repository, {b"t": TEXT, b"f": b"first", b"bin": b"\0"})
    assert re.fullmatch(r"v1 [0-9a-f]{8}\n", call("commit", "-m", "first"))
    call("branch", "exp")
    return call


def write(repository: Path, files: dict[bytes, bytes | None], branch: str = "main") -> None:
    """Changes files in a branch's working layer."""
    with Repository.open(repository) as repo, repo.open_overlay(branch) as overlay:
        for path, data in files.items():
            put(overlay, path, data)


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def diverge(repository: Path, run: Run) -> None:
    """Both branches change the same line, a binary file, and something else each."""
    write(repository, {b"t": TEXT.replace(b"two", b"zwei"), b"bin": b"\0theirs", b"new": b"n"}, "exp")
    run("commit", "--branch", "exp", "-m", "theirs")
    write(repository, {b"t": TEXT.replace(b"two", b"deux"), b"bin": b"\0ours"})
    run("commit", "-m", "ours")


def test_merge_prints_the_new_version_and_then_that_there_is_nothing_more(run: Run, repository: Path) -> None:
    write(repository, {b"new": b"n"}, "exp")
    run("commit", "--branch", "exp", "-m", "theirs")
    assert re.fullmatch(r"v2 [0-9a-f]{8}\n", run("merge", "exp"))
    assert run("merge", "exp") == "Already up to date: exp has nothing that is not here.\n"
    (newest, *_) = objects(run("log", "--json"))
    assert (newest["message"], len(newest["parents"])) == ("Merge exp", 2)
    assert run("cat", "latest", "new") == "n"


def test_a_merge_says_what_has_two_names_now(run: Run, repository: Path) -> None:
    write(repository, {b"t": None, b"theirs": TEXT}, "exp")
    run("commit", "--branch", "exp", "-m", "theirs")
    write(repository, {b"t": None, b"ours": TEXT})
    run("commit", "-m", "ours")
    words = "vfs: t was renamed to ours here and to theirs there: both are kept\n"
    assert re.fullmatch(r"v3 [0-9a-f]{8}\n", run("merge", "exp", stderr=words))
    run("undo")
    (merged,) = objects(run("merge", "exp", "--json"))
    assert merged["renamed_twice"] == [{"path": "t", "ours": "ours", "theirs": "theirs"}]
    assert {"ours", "theirs"} <= set(run("ls", "latest").split())


def test_a_merge_with_conflicts_ends_with_1_and_the_paths_of_all_three_sides(run: Run, repository: Path) -> None:
    diverge(repository, run)
    text = run("merge", "exp", status=1, stderr="vfs merge --continue")
    base, ours, theirs = (objects(run("show", name, "--json"))[0]["id"][:8] for name in ("v1", "v2", "exp"))
    assert text == (
        f"C  bin  both changed it\n     base    @{base}/bin\n     ours    @{ours}/bin\n     theirs  @{theirs}/bin\n"
        f"C  t  both changed it; marked in the file\n"
        f"     base    @{base}/t\n     ours    @{ours}/t\n     theirs  @{theirs}/t\n"
    )
    assert "Merging exp: 2 conflicts left" in run("status")
    (status,) = objects(run("status", "--json"))
    assert [conflict["path"] for conflict in status["merge"]["conflicts"]] == ["bin", "t"]
    run("commit", "-m", "too early", status=4, stderr="conflicts are left: bin, t")
    run("merge", "exp", status=4, stderr="is not finished")

    assert "C  t  " in run("merge", "--theirs", "bin", status=1)
    (left,) = objects(run("merge", "--ours", "t", "--json"))
    assert left == {"merging": "exp", "conflicts": []}
    assert "all conflicts are resolved" in run("status")
    assert re.fullmatch(r"v3 [0-9a-f]{8}\n", run("merge", "--continue"))
    assert (run("cat", "latest", "bin"), run("cat", "latest", "t")) == ("\0theirs", "one\ndeux\nthree\n")
    assert objects(run("status", "--json"))[0]["merge"] is None
    run("merge", "--continue", status=4, stderr="no merge is under way")


def test_a_merge_is_taken_back_without_a_trace(run: Run, repository: Path) -> None:
    diverge(repository, run)
    run("merge", "exp", status=1)
    run("merge", "--abort")
    assert "Nothing to commit" in run("status")
    assert [version["version"] for version in objects(run("log", "--json"))] == ["v2", "v1"]
    assert not (repository / "work" / "main" / "merge").exists()


def test_a_restore_within_a_merge_says_that_the_merge_continues(run: Run, repository: Path) -> None:
    diverge(repository, run)
    run("merge", "exp", status=1)
    write(repository, {b"t": b"half decided"})
    run("undo", status=4, stderr="vfs merge --abort")
    assert "The merge of exp goes on" in run("restore", "latest", "--discard")
    text = run("status")
    assert "Merging exp" in text
    assert "All files are as in the newest version." in text
    assert "Nothing to commit" not in text
    run("merge", "--abort")
    assert "Nothing to commit" in run("status")
    assert "goes on" not in run("restore", "v1", "t")


def test_a_side_or_a_key_can_be_named_from_the_start(run: Run, repository: Path) -> None:
    diverge(repository, run)
    assert re.fullmatch(r"v3 [0-9a-f]{8}\n", run("merge", "exp", "--theirs"))
    assert run("cat", "latest", "t") == "one\nzwei\nthree\n"
    write(repository, {b"l.csv": b"id,a\n1,x\n2,y\n"})
    run("commit", "-m", "table")
    run("branch", "rows")
    write(repository, {b"l.csv": b"id,a\n1,X\n2,y\n"}, "rows")
    run("commit", "--branch", "rows", "-m", "theirs")
    write(repository, {b"l.csv": b"id,a\n2,Y\n1,x\n"})
    run("commit", "-m", "ours")
    run("merge", "rows", "--key", "id:*.csv")
    assert run("cat", "latest", "l.csv") == "id,a\n2,Y\n1,X\n"
    run("merge", "rows", "f", status=2, stderr="PATHs go with")
    run("merge", status=2, stderr="Name what to merge")
    run("merge", "rows", "--key", ":", status=2, stderr="names no key")


def test_undo_takes_back_and_operations_list_what_was_done(run: Run, repository: Path) -> None:
    write(repository, {b"f": b"second"})
    run("commit", "-m", "second")
    first = objects(run("log", "--json"))[-1]["id"][:8]
    assert run("undo").splitlines() == [
        'Undone: commit "second"',
        f"  Now the branch main is at v1 ({first}).",
        "  Not committed on main: 1 change (`vfs status`).",
    ]
    assert "M  f" in run("status")
    assert [version["version"] for version in objects(run("log", "--json"))] == ["v1"]
    again = run("undo").splitlines()
    assert again[0] == "Done again: commit main"
    assert again[1].startswith("  Now the branch main is at v2 (")
    assert again[2] == "  All of main is committed."
    assert run("cat", "v2", "f") == "second"
    run("tag", "t", "v1")
    assert run("undo").splitlines() == ["Undone: tag t", "  Now there is no tag t any more."]
    assert run("tag") == ""
    listed = objects(run("operations", "--json"))
    assert [(each["kind"], each["author"]) for each in listed[:3]] == [
        ("undo", "ann@lab"),
        ("tag", "ann@lab"),
        ("undo", "ann@lab"),
    ]
    assert {"seq", "time", "message", "refs", "settings", "args"} <= set(listed[0])
    assert "what tag" in run("operations", "-n", "1")


def test_undo_of_a_restore_restores_uncommitted_changes(run: Run, repository: Path) -> None:
    write(repository, {b"f": b"uncommitted", b"new": b"n"})
    before = run("status")
    run("restore", "--discard", "latest")
    assert "Nothing to commit" in run("status")
    run("undo")
    assert run("status") == before
    write(repository, {b"later": b"l"})
    run("undo", status=4, stderr="made since would be lost: later")


def test_undo_of_a_new_branch_or_a_switch(run: Run) -> None:
    run("branch", "fresh")
    run("switch", "fresh")
    lines = run("undo").splitlines()
    assert lines[0] == "Undone: switch to fresh"
    assert lines[1].startswith("  Now the current branch is main, at v1 (")
    assert objects(run("status", "--json"))[0]["branch"] == "main"
    assert run("undo").splitlines()[1].startswith("  Now the current branch is fresh, at v1 (")
    (done,) = objects(run("undo", "--json"))
    assert (done["now"]["current"], done["now"]["uncommitted"]) == ("main", None)
    assert set(done["now"]["branches"]) == {"main", "exp", "fresh"}


def test_undo_of_other_operations_reports_the_new_state(run: Run, repository: Path) -> None:
    run("describe", "v1", "-m", "better")
    assert ' says "first".' in run("undo").splitlines()[1]
    run("branch", "--protect", "exp")
    assert run("undo").splitlines()[1] == "  Now the branch exp is not protected."
    write(repository, {b"f": b"x"})
    run("restore", "--discard", "latest", "f")
    assert run("undo").splitlines() == [
        "Undone: restore f",
        "  Not committed on main: 1 change (`vfs status`).",
    ]
    run("branch", "--delete", "exp")
    assert run("undo").splitlines()[1].startswith("  Now the branch exp is at v1 (")


def test_undo_of_the_first_commit_leaves_no_version(repository: Path, run: Run) -> None:
    other = repository.parent / "other"
    run("init", str(other))
    write(other, {b"f": b"1"})
    run("commit", "-m", "only", "--repo", str(other))
    assert run("undo", "--repo", str(other)).splitlines()[1] == "  Now the branch main has no version yet."


def test_words_and_metadata_of_a_version_change_and_its_id_stays(run: Run, repository: Path) -> None:
    write(repository, {b"f": b"second"})
    run("commit", "-m", "second", "--meta", "acc=0.91", "--meta", "by=ann")
    (before,) = objects(run("show", "--json"))
    assert before["meta"] == {"acc": "0.91", "by": "ann"}
    assert run("describe", "v2", "--meta", "acc=0.93", "--meta", "by=", "-m", "better") == "v2  better  acc=0.93\n"
    (after,) = objects(run("show", "--json"))
    assert (after["id"], after["message"], after["meta"]) == (before["id"], "better", {"acc": "0.93"})
    assert "better acc=0.93" in run("log")
    assert "acc  0.93" in run("log", "--full")
    run("describe", "v1", "--meta", "acc=0.5")
    assert "acc  0.5 → 0.93" in run("diff", "v1", "v2", status=1)
    changed = [each for each in objects(run("diff", "v1", "v2", "--json", status=1)) if each["change"] == "metadata"]
    assert changed == [{"path": None, "change": "metadata", "key": "acc", "old": "0.5", "new": "0.93"}]
    run("undo")
    assert "acc  0.5" not in run("show", "v1")
    run("describe", "v2", "-m", "better", status=1, stderr="says that already")
    run("describe", "v2", status=2, stderr="Name the change: -m MESSAGE or --meta")
    run("describe", "v2", "--meta", "vfs.x=1", status=2, stderr="the program's own")
    run("describe", "v2", "--meta", "acc", status=2, stderr="KEY=VALUE")


def test_amend_takes_changes_into_the_newest_version(run: Run, repository: Path) -> None:
    write(repository, {b"f": b"second"})
    run("commit", "-m", "second", "--meta", "acc=0.9")
    (before,) = objects(run("show", "--json"))
    write(repository, {b"f": b"second, repaired"})
    assert re.fullmatch(r"v2 [0-9a-f]{8}\n", run("amend", "--meta", "n=1"))
    (after,) = objects(run("show", "--json"))
    assert after["id"] != before["id"]
    assert (after["version"], after["parents"], after["message"]) == ("v2", before["parents"], "second")
    assert after["meta"] == {"acc": "0.9", "n": "1"}
    assert run("cat", "v2", "f") == "second, repaired"
    assert run("cat", before["id"], "f") == "second"
    assert "Nothing to commit" in run("status")
    run("undo")
    assert objects(run("show", "--json"))[0]["id"] == before["id"]
    assert "M  f" in run("status")
    run("undo")
    run("amend", "-m", "other words")
    assert objects(run("show", "--json"))[0]["id"] == after["id"]
    assert "other words" in run("log")
    run("amend", status=1, stderr="says that already")


def test_a_version_that_others_stand_on_is_not_amended(run: Run, repository: Path) -> None:
    write(repository, {b"f": b"second"})
    run("amend", status=4, stderr="part of the branch 'exp'")
    run("commit", "-m", "second")
    run("tag", "paper")
    write(repository, {b"f": b"third"})
    run("amend", status=4, stderr="part of the tag 'paper'")


def test_notes_and_operations_are_in_the_log_and_survive_an_index_made_anew(run: Run, repository: Path) -> None:
    write(repository, {b"f": b"second"})
    run("commit", "-m", "second", "--meta", "acc=0.9")
    run("describe", "v2", "-m", "kept in the log")
    run("fsck", "--rebuild-index")
    assert "kept in the log" in run("log")
    assert "commit  main" in run("operations")
