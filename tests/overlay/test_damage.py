"""Damaged files of a working layer: nothing is cut, no change gets a wrong base, undamaged records are recovered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from support.working import Bench, Picture, working_layer
from vfs.api.hints import hint_text
from vfs.backend.rooted_path import RootedPath
from vfs.errors import Corrupt
from vfs.model.objects import Kind, Version
from vfs.overlay.journal.framing import FORMAT, Heading
from vfs.overlay.journal.journal import Journal
from vfs.overlay.journal.journal_records import Base, Create, Record, Rename, Unlink, Write

FILES = 12


def flip(path: Path, position: int) -> None:
    """Flips a bit."""
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 1
    path.write_bytes(damaged)


def journal_of(bench: Bench, number: int = 1) -> Path:
    return bench.directory / f"journal-{number}"


def put_synced(bench: Bench) -> None:
    """Makes files, each synced behind it."""
    for number in range(FILES):
        bench.put(b"f%02d" % number, b"%02d" % number * 3000)
        bench.overlay.sync()


def files_of(bench: Bench) -> dict[bytes, bytes]:
    return {name: bench.read(name) for name in bench.names()}


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("number", [0, 1, FILES - 1])
def test_a_damaged_record_hides_nothing_that_was_synced_behind_it(bench: Bench, number: int, is_closed: bool) -> None:
    put_synced(bench)
    bench.overlay.close() if is_closed else bench.overlay.abandon()
    journal = journal_of(bench)
    flip(journal, journal.read_bytes().index(b"f%02d" % number))
    damaged = journal.read_bytes()
    for _ in range(2):
        with pytest.raises(Corrupt, match="damaged at byte") as refused:
            bench.crash()
        assert "1 record of" in refused.value.message
        assert "vfs recover" in hint_text(refused.value.hint)
        assert journal.read_bytes() == damaged
    bench.recover()
    expected = {b"f%02d" % other: b"%02d" % other * 3000 for other in range(FILES) if other != number}
    assert files_of(bench) == expected
    words = "\n".join(bench.overlay.recovery.warnings())
    assert "1 records in it cannot be read" in words
    assert (bench.directory / "journal-1.damaged").read_bytes() == damaged
    for again in (bench.crash, bench.reopen):
        again()
        assert files_of(bench) == expected
    assert bench.picture_of(bench.commit()) == bench.picture()


def test_damage_of_the_data_of_a_record_is_left_where_it_is(bench: Bench) -> None:
    put_synced(bench)
    bench.overlay.abandon()
    journal = journal_of(bench)
    flip(journal, journal.read_bytes().index(b"01" * 3000) + 100)
    bench.crash()
    assert len(files_of(bench)) == FILES
    with pytest.raises(Corrupt, match="f01"):
        bench.commit()


def test_a_whole_sector_of_zeros_among_what_was_synced_is_damage(bench: Bench) -> None:
    put_synced(bench)
    bench.overlay.abandon()
    journal = journal_of(bench)
    content = bytearray(journal.read_bytes())
    at = journal.read_bytes().index(b"f03") - 60
    content[at : at + 200] = bytes(200)
    journal.write_bytes(content)
    with pytest.raises(Corrupt, match="damaged at byte"):
        bench.crash()
    bench.recover()
    assert set(files_of(bench)) >= {b"f%02d" % number for number in range(FILES)} - {b"f03"}


def test_a_journal_inside_a_file_is_never_taken_for_the_layers_own(bench: Bench, tmp_path: Path) -> None:
    """Whatever the tear leaves, and however plausible the records in the data are."""
    bench.put(b"a", b"1")
    bench.overlay.sync()
    journal = journal_of(bench)
    inner = tmp_path / "inner"
    shutil.copyfile(journal, inner)
    nested = Journal.create(RootedPath.of(tmp_path / "crafted"), Heading(FORMAT, "main", 1, b"", 1))
    for number in range(20):
        nested.append(Create(1000 + number, 1, b"evil%d" % number, Kind.FILE, 0o6777, 0, 0, 0, 1))
    nested.finish()
    content = (tmp_path / "crafted").read_bytes() + inner.read_bytes()
    bench.put(b"image", content)
    end = journal.stat().st_size
    bench.overlay.abandon()
    whole = journal.read_bytes()
    start = whole.index(content)
    for length in (end - 1, end - 300, start + len(content) // 2):
        journal.write_bytes(whole[:length])
        bench.crash()
        assert bench.overlay.recovery.cut == ("journal-1",)
        assert files_of(bench) == {b"a": b"1", b"image": b""}
        bench.overlay.abandon()
    # Its last bytes record that all is durable, and the next sequence number.
    journal.write_bytes(whole)
    bench.crash()
    bench.put(b"later", b"2")
    bench.crash()
    assert files_of(bench) == {b"a": b"1", b"image": content, b"later": b"2"}
    # The head of the record that holds them is damaged: they are still not records of this journal.
    bench.overlay.sync()
    bench.overlay.abandon()
    flip(journal, start - 20)
    with pytest.raises(Corrupt, match="1 record of"):
        bench.crash()
    bench.recover()
    assert files_of(bench) == {b"a": b"1", b"image": b"", b"later": b"2"}


def test_torn_tails_are_quarantined_and_only_a_few_are_kept(bench: Bench) -> None:
    kept: list[bytes] = []
    for number in range(7):
        bench.put(b"f%d" % number)
        size = journal_of(bench).stat().st_size
        bench.put(b"torn", b"lost %d" % number * 50)
        bench.overlay.abandon()
        journal = journal_of(bench)
        os.truncate(journal, journal.stat().st_size - 1)
        whole = journal.read_bytes()
        bench.crash()
        assert bench.overlay.recovery.cut == ("journal-1",)
        (word,) = [word for word in bench.overlay.recovery.warnings() if ".cut" in word]
        cut = Path(word.rpartition(" kept as ")[2])
        assert journal.read_bytes() + cut.read_bytes() == whole
        assert size <= len(whole)
        kept.append(cut.read_bytes())
        bench.unlink(b"torn")
    left = sorted(path.read_bytes() for path in bench.directory.glob("*.cut"))
    assert left == sorted(kept[-4:])


def test_the_end_of_an_older_generation_that_was_durable_is_missed(bench: Bench) -> None:
    bench.put(b"a", b"1")
    bench.put(b"b", b"2")
    bench.overlay.thaw(bench.overlay.freeze())
    bench.put(b"c", b"3")
    bench.overlay.sync()
    bench.overlay.abandon()
    journal = journal_of(bench)
    os.truncate(journal, journal.stat().st_size - 1)
    files = {path.name: path.read_bytes() for path in bench.directory.glob("journal*")}
    with pytest.raises(Corrupt, match="lost its end"):
        bench.crash()
    assert {path.name: path.read_bytes() for path in bench.directory.glob("journal*")} == files
    bench.recover()
    assert files_of(bench) == {b"a": b"1", b"b": b"", b"c": b"3"}


def test_a_generation_in_the_middle_that_is_gone_is_missed(bench: Bench) -> None:
    for number in range(3):
        bench.put(b"f%d" % number)
        bench.overlay.sync()
        bench.overlay.thaw(bench.overlay.freeze())
    bench.put(b"last")
    bench.overlay.close()
    journal_of(bench, 2).unlink()
    with pytest.raises(Corrupt, match="lost its end"):
        bench.crash()
    bench.recover()
    assert set(files_of(bench)) == {b"f0", b"f2", b"last"}


# The base file.


def committed_then_changed(bench: Bench) -> None:
    bench.put(b"f", b"1" * 100)
    bench.commit()
    bench.rename(b"f", b"g")
    bench.put(b"h", b"2" * 100)
    bench.commit()
    bench.write(b"g", 0, b"changed")


def moved_with_its_branch(bench: Bench) -> None:
    bench.put(b"f", b"1" * 100)
    first = bench.commit()
    bench.put(b"g", b"2" * 100)
    bench.commit()
    bench.overlay.set_base(bench.publish(first))
    bench.write(b"f", 0, b"changed")


def compacted(bench: Bench) -> None:
    committed_then_changed(bench)
    bench.overlay.compactor.run()
    bench.put(b"later", b"3")


def shows_a_tree(bench: Bench) -> None:
    committed_then_changed(bench)
    version = bench.versions_of(bench.head)[0] if bench.head is not None else None
    assert version is not None
    bench.consumed = bench.overlay.begin_replacing()
    bench.shown, bench.taken_up = (version.commit.root, version.commit.links), bench.head
    bench.overlay.replace(bench.head, *bench.shown)
    bench.put(b"later", b"3")


def stays_behind_its_branch(bench: Bench) -> None:
    bench.put(b"f", b"1" * 100)
    first = bench.commit()
    bench.write(b"f", 0, b"2" * 100)
    bench.commit()
    bench.put(b"g", b"on v2")
    bench.publish(first)


def made_anew(bench: Bench) -> None:
    bench.put(b"f", b"1" * 100)
    bench.commit()
    bench.overlay.close()
    for path in bench.directory.iterdir():
        path.unlink()
    bench.publish(bench.versions_of(bench.head)[0] if bench.head is not None else pytest.fail("no version"))
    bench.crash()
    bench.put(b"g", b"2")


SCENES = [
    committed_then_changed,
    moved_with_its_branch,
    compacted,
    shows_a_tree,
    stays_behind_its_branch,
    made_anew,
]


def states_of(base: bytes) -> Iterator[bytes | None]:
    """Yields what may be left of the base file: every length, one flipped bit in every few bytes, nothing, no file."""
    yield None
    for length in range(0, len(base), 3):
        yield base[:length]
    for position in range(0, len(base), 7):
        yield base[:position] + bytes((base[position] ^ 4,)) + base[position + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("is_closed", [True, False])
def test_whatever_is_left_of_the_base_file_changes_stay_on_their_version(
    tmp_path: Path, scene: Callable[[Bench], None], is_closed: bool
) -> None:
    with working_layer(tmp_path) as bench:
        scene(bench)
        picture, version = bench.picture(), bench.overlay.base
        bench.overlay.close() if is_closed else bench.overlay.abandon()
        files = {path.name: path.read_bytes() for path in bench.directory.iterdir()}
        opened = refused = 0
        for base in states_of(files["base"]):
            lay(bench, files | ({"base": base} if base is not None else {}), without=base is None)
            try:
                bench.crash()
            except Corrupt:
                refused += 1
                check_recovered(bench, picture, version)
                continue
            opened += 1
            assert bench.overlay.base == version
            assert bench.picture() == picture
            bench.crash()
            assert (bench.overlay.base, bench.picture()) == (version, picture)
            bench.overlay.abandon()
        assert opened > 10
        assert refused > 10
        lay(bench, files)
        bench.crash()


def lay(bench: Bench, files: dict[str, bytes], *, without: bool = False) -> None:
    """Lets the directory have these files (`without` a base file) alone."""
    for path in bench.directory.iterdir():
        path.unlink()
    for name, content in files.items():
        if not (without and name == "base"):
            (bench.directory / name).write_bytes(content)


def check_recovered(bench: Bench, picture: Picture, version: Version | None) -> None:
    bench.recover()
    assert (bench.overlay.base, bench.picture()) == (version, picture)
    bench.crash()
    assert (bench.overlay.base, bench.picture()) == (version, picture)
    bench.overlay.abandon()


# Records that do not fit, and those that no program writes.


@contextmanager
def journal_with(bench: Bench, *records: Record) -> Iterator[None]:
    """Appends records to the journal of a closed layer, which is opened again behind it."""
    bench.overlay.close()
    (path,) = bench.directory.glob("journal-*[0-9]")
    journal = Journal.open(RootedPath.of(path))
    for record in records:
        journal.append(record, b"data" if isinstance(record, Write) else b"")
    journal.finish()
    yield


UNFIT: list[Record] = [
    Unlink(1, b"none", 5),
    Unlink(77, b"f", 5),
    Unlink(1, b"gone", 5),
    Rename(1, b"none", 1, b"x", False, 5),
    Rename(1, b"f", 99, b"x", False, 5),
    Rename(1, b"f", 1, b"none", True, 5),
    Create(1, 1, b"root", Kind.FILE, 0o644, 0, 0, 0, 5),
    Create(5000, 1, b"f", Kind.FILE, 0o644, 0, 0, 0, 5),
    Create(5000, 12345, b"x", Kind.FILE, 0o644, 0, 0, 0, 5),
]


@pytest.mark.parametrize("record", UNFIT, ids=repr)
def test_an_inapplicable_record_is_skipped_and_reported(bench: Bench, record: Record) -> None:
    bench.put(b"f", b"1")
    bench.put(b"gone")
    bench.unlink(b"gone")
    bench.mkdir(b"d")
    picture = bench.picture()
    with journal_with(bench, record, Create(6000, 1, b"behind", Kind.FILE, 0o644, 1, 2, 0, 7)):
        bench.crash()
    (word,) = [word for word in bench.overlay.recovery.warnings() if "passed over" in word]
    assert "journal-1" in word
    found = bench.picture()
    assert {path: thing for path, thing in found.items() if path not in (b"behind", b"")} == {
        path: thing for path, thing in picture.items() if path
    }
    assert b"behind" in found
    assert bench.picture_of(bench.commit()) == bench.picture()


def test_a_directory_never_comes_to_be_in_itself(bench: Bench) -> None:
    bench.mkdir(b"d")
    bench.mkdir(b"d/e")
    inside = bench.ino(b"d/e")
    with journal_with(bench, Rename(1, b"d", inside, b"x", False, 5)):
        bench.crash()
    assert any("in itself" in word for word in bench.overlay.recovery.warnings())
    assert set(bench.picture()) == {b"", b"d", b"d/e"}


IMPOSSIBLE: list[tuple[type[Record], list[object]]] = [
    (Create, [5000, 1, b"a/b", 1, 0o644, 0, 0, 0, 5, b""]),
    (Create, [5000, 1, b"..", 1, 0o644, 0, 0, 0, 5, b""]),
    (Create, [5000, 1, b"", 1, 0o644, 0, 0, 0, 5, b""]),
    (Create, [5000, 1, b"x", 99, 0o644, 0, 0, 0, 5, b""]),
    (Create, [5000, 1, b"x", 1, -1, 0, 0, 0, 5, b""]),
    (Create, [5000, 1, b"x", 3, 0o644, 0, 0, 0, 5, b"a\0b"]),
    (Create, [-5, 1, b"x", 1, 0o644, 0, 0, 0, 5, b""]),
    (Create, [2**64 - 1, 1, b"x", 1, 0o644, 0, 0, 0, 5, b""]),
    (Create, [5000, 1]),
    (Create, ["x"] * 10),
    (Write, [5000, 2**63, 5]),
    (Write, [5000, -1, 5]),
    (Write, [5000, 2**63 - 2, 5]),
    (Base, [3, b"", [], []]),
    (Rename, [1, b"f", 1, b"a/b", False, 5]),
]


POSSIBLE: dict[type[Record], Record] = {
    Create: Create(5000, 1, b"x", Kind.FILE, 0o644, 0, 0, 0, 5),
    Write: Write(5000, 0, 5),
    Base: Base(3, b""),
    Rename: Rename(1, b"f", 1, b"x", False, 5),
}


@pytest.mark.parametrize(("kind", "fields"), IMPOSSIBLE)
def test_a_record_that_no_program_writes_is_refused_by_name(
    bench: Bench, kind: type[Record], fields: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.put(b"f", b"1")
    meta = msgspec.msgpack.encode(fields)
    monkeypatch.setattr("vfs.overlay.journal.journal.encode_record", lambda _record: meta)
    bench.overlay.close()
    journal = Journal.open(RootedPath.of(bench.directory / "journal-1"))
    journal.append(POSSIBLE[kind], b"data" if kind is Write else b"")
    monkeypatch.undo()
    journal.finish()
    with pytest.raises(Corrupt) as refused:
        bench.crash()
    assert "recover" in hint_text(refused.value.hint)
    bench.recover()
    assert files_of(bench) == {b"f": b"1"}


@pytest.mark.parametrize(
    "values",
    [{"first_seq": 0}, {"first_seq": -7}, {"first_seq": 2**64 - 1}, {"generation": -1}, {"generation": 2**63 + 5},
     {"base": b"short"}, {"next_seq": 2**64 - 1}, {"generation": 4}],
)  # fmt: skip
def test_a_heading_that_no_program_writes_is_refused_by_name(bench: Bench, values: dict[str, object]) -> None:
    bench.overlay.close()
    path = bench.directory / "journal-1"
    heading = msgspec.structs.replace(Heading(FORMAT, "main", 1, b"", 1), **values)
    Journal.create(RootedPath.of(path), heading).close()
    with pytest.raises(Corrupt, match="journal-1"):
        bench.crash()
    path.unlink()
    bench.recover()


@pytest.mark.parametrize("name", ["journal-1", "journal-2"])
def test_a_journal_that_is_missing_is_refused_by_name_and_the_rest_is_recovered(bench: Bench, name: str) -> None:
    bench.put(b"f", b"1")
    if name == "journal-2":
        bench.commit()
        bench.put(b"g", b"2")
    bench.overlay.close()
    (bench.directory / name).unlink()
    for _ in range(2):
        with pytest.raises(Corrupt, match=f"{name} is missing") as refused:
            bench.crash()
        assert "vfs recover" in hint_text(refused.value.hint)
    bench.recover()
    assert f"{name} was missing: the changes in it are lost" in "\n".join(bench.overlay.recovery.warnings())
    assert files_of(bench) == ({b"f": b"1"} if name == "journal-2" else {})
    bench.put(b"h", b"3")
    bench.crash()
    assert files_of(bench)[b"h"] == b"3"


def test_a_journal_of_another_branch_or_generation_is_refused(bench: Bench) -> None:
    bench.put(b"f", b"1")
    bench.overlay.close()
    path = bench.directory / "journal-1"
    whole = path.read_bytes()
    path.unlink()
    other = Journal.create(RootedPath.of(path), Heading(FORMAT, "exp", 1, b"", 1, is_start=True))
    other.close()
    with pytest.raises(Corrupt, match="is the journal of generation 1 of 'exp'"):
        bench.crash()
    path.write_bytes(whole)
    bench.crash()
    assert files_of(bench) == {b"f": b"1"}


@pytest.mark.parametrize("position", [3, 20, 30])
def test_a_journal_without_a_heading_is_quarantined_by_a_recovery(bench: Bench, position: int) -> None:
    bench.put(b"f", b"1")
    bench.overlay.close()
    path = bench.directory / "journal-1"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="journal-1"):
        bench.crash()
    bench.recover()
    assert "it is kept as journal-1.lost" in "\n".join(bench.overlay.recovery.warnings())
    assert (bench.directory / "journal-1.lost").read_bytes() == data
    bench.put(b"g", b"2")
    bench.crash()
    assert files_of(bench) == {b"g": b"2"}
