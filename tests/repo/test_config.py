"""Goal: a repository is opened by a program that understands it, or not at all."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs.api.hints import hint_text
from vfs.errors import Corrupt, Unsupported
from vfs.model.chunking import ChunkerParams
from vfs.repo.config import Config, decode_config, encode_config


def test_a_written_configuration_is_read_again() -> None:
    config = Config(chunker=ChunkerParams(1024, 4096, 16384, 1, 7), tiny_bytes_max=100, compression_level=3)
    assert decode_config(encode_config(config)) == config
    assert Config().id != Config().id


def test_a_newer_format_is_refused_even_where_its_fields_are_unknown() -> None:
    with pytest.raises(Unsupported, match="format 2") as caught:
        decode_config(json.dumps({"format": 2, "chunker": "of another shape"}).encode())
    assert "newer version" in hint_text(caught.value.hint)


def test_an_unknown_feature_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="encryption"):
        decode_config(encode_config(Config(features=("encryption",))))


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(position: int, bit: int) -> None:
    config = Config(id="0" * 32)
    data = bytearray(encode_config(config))
    data[position % len(data)] ^= 1 << bit
    try:
        found = decode_config(bytes(data))
    except (Corrupt, Unsupported):
        return
    # White space between fields says nothing.
    assert found == config


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"format": 1}'])
def test_damage_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_config(data)


def test_values_out_of_range_are_refused() -> None:
    fields = msgspec.json.decode(encode_config(Config()))
    with pytest.raises(Corrupt):
        decode_config(msgspec.json.encode(fields | {"tiny_bytes_max": 1 << 30}))
