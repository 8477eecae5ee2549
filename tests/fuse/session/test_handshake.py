"""The FUSE handshake: the flags of a new mount."""

from __future__ import annotations

import os
import socket
import struct

from vfs.fuse.session.handshake import Handshake, improved

AUTO, EXPLICIT, KILLPRIV = 1 << 12, 1 << 25, 1 << 28
CUT = 1 << 3
OTHERS = 1 << 5 | 1 << 19


def test_what_the_kernel_does_not_offer_is_not_asked_for() -> None:
    assert improved(OTHERS | AUTO, OTHERS | AUTO) == OTHERS | AUTO


def test_handshake_requests_the_flags_for_better_caching() -> None:
    assert improved(OTHERS | AUTO, ~0) == OTHERS | EXPLICIT | KILLPRIV


def test_opening_does_not_cut_a_file() -> None:
    assert improved(OTHERS | CUT, 0) == OTHERS


def test_both_messages_pass_and_the_connection_takes_its_place() -> None:
    kernel, connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, connection:
        handshake = Handshake(connection.fileno())
        message = struct.pack("<40xIIII", 7, 45, 1 << 17, OTHERS | KILLPRIV)
        kernel.sendall(message)
        handshake.deliver()
        assert os.read(connection.fileno(), 1000) == message
        os.write(connection.fileno(), struct.pack("<16xIIIII", 7, 38, 1 << 17, OTHERS, 12345))
        handshake.finish()
        assert kernel.recv(1000) == struct.pack("<16xIIIII", 7, 38, 1 << 17, OTHERS | KILLPRIV, 12345)
        kernel.sendall(b"the next request")
        assert os.read(connection.fileno(), 1000) == b"the next request"


def test_a_refusal_passes_as_it_is() -> None:
    kernel, connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, connection:
        handshake = Handshake(connection.fileno())
        kernel.sendall(struct.pack("<40xIIII", 8, 0, 0, ~0 & 0xFFFFFFFF))
        handshake.deliver()
        os.read(connection.fileno(), 1000)
        refusal = struct.pack("<IiQ", 16, -71, 1)
        os.write(connection.fileno(), refusal)
        handshake.finish()
        assert kernel.recv(1000) == refusal


def test_no_descriptor_is_left_behind() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    kernel, connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with kernel, connection:
        handshake = Handshake(connection.fileno())
        kernel.sendall(bytes(56))
        handshake.deliver()
        os.read(connection.fileno(), 1000)
        os.write(connection.fileno(), bytes(36))
        handshake.finish()
        assert not os.get_inheritable(connection.fileno())
    assert sorted(os.listdir("/proc/self/fd")) == before
