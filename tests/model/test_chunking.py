"""Chunk boundaries: pinned, since a library release that moved them would end all sharing with older versions."""

from __future__ import annotations

import io
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from vfs.model.chunking import LOOKAHEAD_BYTES, Chunker, ChunkerParams
from vfs.model.ids import chunk_id

SMALL = ChunkerParams(64, 256, 1024, 2, 0)


def test_boundaries_are_those_of_the_first_release() -> None:
    data = random.Random(20261123).randbytes(2_000_000)
    params = ChunkerParams(32 * 1024, 64 * 1024, 256 * 1024, 2, 0)
    assert Chunker(params).cut(data)[:6] == [67713, 75639, 47302, 81500, 73095, 77551]
    assert Chunker(SMALL).cut(data[:3000]) == [280, 344, 256, 399, 323, 267, 299, 381, 309, 142]


def test_ids_are_plain_blake3() -> None:
    assert chunk_id(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@settings(max_examples=60)
@given(st.integers(0, 20_000), st.integers(0, 2**32))
def test_streams_are_cut_as_buffers_are(size: int, seed: int) -> None:
    data = random.Random(seed).randbytes(size)
    lengths = Chunker(SMALL).cut(data)
    assert sum(lengths) == size
    assert [len(chunk) for chunk in Chunker(SMALL).stream(io.BytesIO(data))] == lengths
    assert b"".join(bytes(chunk) for chunk in Chunker(SMALL).stream(io.BytesIO(data))) == data


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.integers(1000, 8000), st.integers(0, 2000))
def test_a_boundary_stands_whatever_comes_well_behind_it(seed: int, size: int, more: int) -> None:
    """What re-cutting around a change relies on: boundaries far enough before the end of a stream are final."""
    data = random.Random(seed).randbytes(size + more)
    shorter, longer = Chunker(SMALL).cut(data[:size]), Chunker(SMALL).cut(data)
    at = 0
    for a, b in zip(shorter, longer, strict=False):
        if at + b > size - LOOKAHEAD_BYTES:
            break
        assert a == b
        at += a


def test_cutting_can_start_at_any_boundary() -> None:
    data = random.Random(5).randbytes(50_000)
    lengths = Chunker(SMALL).cut(data)
    at = 0
    for number, length in enumerate(lengths):
        assert Chunker(SMALL).cut(data[at:]) == lengths[number:]
        at += length
