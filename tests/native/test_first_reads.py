"""Look-ups and first reads, from which the native session layer predicts opens and notices order."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from support.native_layer import DIRECTORY_INO, FILE_INO, Kernel
from support.native_leaf import Leaf
from support.native_pack import Pack, noise
from vfs.fuse.prefetch.open_predictor import ConfidencePredictor
from vfs.model.objects import Form
from vfs.native.session import FirstRead, NativeSession, ReadKind


@pytest.fixture
def session(kernel: Kernel) -> Iterator[NativeSession]:
    kernel.session.forget_first_reads()
    yield kernel.session
    kernel.session.forget_first_reads()


@pytest.mark.parametrize("share", [0, 1, 2, 3, 5])
def test_opens_are_predicted_as_python_does(session: NativeSession, share: int) -> None:
    """Of `share` look-ups one is followed by an open, of 0 none."""
    python = ConfidencePredictor()
    predicted = []
    for number in range(200):
        ino = FILE_INO + number % 150
        predicted.append(session.looked_up(ino))
        assert predicted[-1] == python.looked_up(ino)
        if share and number % share == 0:
            for predictor in (session, python):
                predictor.opened(ino)
                predictor.opened(ino)
    assert any(predicted) == bool(share)


class Reader:
    """Reads files of a leaf that are prepared."""

    def __init__(self, kernel: Kernel, pack: Pack, leaf: Leaf) -> None:
        self._session, self._pack, self._leaf = kernel.session, pack, leaf

    def read(self, *numbers: int, is_watched: bool = False) -> list[tuple[int, bool]]:
        """Reads files; returns which reads were noted, and which were the second of two in order."""
        place = self._pack.place(*self._leaf.pieces[0])
        for at in numbers:
            ino = self._leaf.ino(at)
            assert self._session.prepare(ino, place, DIRECTORY_INO, self._leaf.first + at)
            self._pack.read(ino, None)
        inos = {self._leaf.ino(at): at for at in range(len(self._leaf.entries))}
        reads = self._session.take_first_reads()
        kinds = {ReadKind.WATCHED} if is_watched else {ReadKind.BEGIN, ReadKind.SECOND}
        assert {read.kind for read in reads} <= kinds
        return [(inos[read.ino], read.kind == ReadKind.SECOND) for read in reads]


@pytest.fixture
def reader(kernel: Kernel, pack: Pack, session: NativeSession) -> Reader:
    assert session is kernel.session
    leaf = Leaf(kernel, pack, [3000] * 40)
    # Files 10 to 19 are tiny: they lie between others, and are none of the next two.
    for at in range(10, 20):
        leaf.entries[at] = msgspec.structs.replace(leaf.entries[at], form=Form.TINY)
    assert leaf.keep()
    return Reader(kernel, pack, leaf)


def test_a_read_of_one_of_the_next_two_files_is_the_second(reader: Reader) -> None:
    assert reader.read(3, 4) == [(3, False), (4, True)]
    assert reader.read(30, 32) == [(30, False), (32, True)]
    assert reader.read(34, 38) == [(34, False), (38, False)]
    # One that was followed is noted no more.
    assert reader.read(5) == [(5, False)]
    assert reader.read(9, 21) == [(9, False), (21, True)]
    assert reader.read(27, 22) == [(27, False), (22, False)]


def test_the_first_of_two_is_forgotten_after_many_others(reader: Reader) -> None:
    others = list(range(0, 40, 3))[:9]
    assert reader.read(38, *others, 39)[-1] == (39, True)
    reader.read(38, *range(37, -1, -2))
    assert reader.read(39) == [(39, False)]


def test_another_leaf_has_the_next_file_at_the_next_positions(reader: Reader, session: NativeSession) -> None:
    session.drop_leaves(DIRECTORY_INO)
    assert reader.read(3, 5) == [(3, False), (5, True)]
    assert reader.read(9, 21) == [(9, False), (21, False)]


def test_python_is_told_at_once_of_what_is_in_order_or_watched(
    reader: Reader, session: NativeSession, pack: Pack
) -> None:
    told = pack.told
    reader.read(1)
    assert pack.told == told
    reader.read(2)
    assert pack.told > told
    session.watch(DIRECTORY_INO, is_watched=True)
    session.watch(DIRECTORY_INO, is_watched=True)
    told = pack.told
    reader.read(35, is_watched=True)
    assert told < pack.told
    session.watch(DIRECTORY_INO, is_watched=False)
    told = pack.told
    assert reader.read(30) == [(30, False)]
    assert pack.told == told


def test_reads_are_told_when_there_are_many_and_counted(kernel: Kernel, pack: Pack, session: NativeSession) -> None:
    place = pack.place(*pack.add(noise(1000)))
    before = session.take_first_reads()
    told = pack.told
    for number in range(300):
        assert session.prepare(FILE_INO + number, place, DIRECTORY_INO, 100 * number)
        pack.read(FILE_INO + number, None)
    assert pack.told > told
    reads = session.take_first_reads()
    assert before == []
    # The source takes none: there is room for so many.
    assert [read.ino for read in reads] == list(range(FILE_INO, FILE_INO + 256))
    assert [read.begun - reads[0].begun for read in reads] == list(range(256))
    assert reads[0] == FirstRead(FILE_INO, ReadKind.BEGIN, 1)
    session.prepare(FILE_INO, place)
    pack.read(FILE_INO, None)
    # The 44 that found no room count too. This one has no position.
    assert session.take_first_reads()[0].begun in range(reads[-1].begun, reads[-1].begun + 45)
    assert kernel.session.take_first_reads() == []
