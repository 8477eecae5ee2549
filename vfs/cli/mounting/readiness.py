"""Telling systemd (`Type=notify`) that a mount answers."""

from __future__ import annotations

import os
import socket


def tell_systemd(state: str) -> None:
    """Sends a state, such as `READY=1`, to the socket that NOTIFY_SOCKET names; does nothing where it names none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        # What is no path is a name in the abstract namespace, with another character for its first byte, NUL.
        connection.connect(address if address.startswith("/") else "\0" + address[1:])
        connection.sendall(state.encode())
