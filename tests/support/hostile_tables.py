"""Tables that were made to take memory and time."""

from __future__ import annotations

import struct


def _number(value: int) -> bytes:
    """Returns a number as Thrift's compact form has it, seven bits a byte."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _signed(value: int) -> bytes:
    return _number(value << 1)


def wide_parquet(columns: int) -> bytes:
    """Returns a Parquet file of optional 32-bit columns without a row."""
    root = b"\x48" + _number(4) + b"root" + b"\x15" + _signed(columns) + b"\0"
    nodes = [root]
    for number in range(columns):
        name = b"c%d" % number
        nodes.append(b"\x15" + _signed(1) + b"\x25" + _signed(1) + b"\x18" + _number(len(name)) + name + b"\0")
    schema = b"\x19" + (b"\xfc" + _number(len(nodes)) if len(nodes) > 14 else bytes([len(nodes) << 4 | 12]))
    footer = b"\x15" + _signed(1) + schema + b"".join(nodes) + b"\x16" + _signed(0) + b"\x19\x0c" + b"\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"
