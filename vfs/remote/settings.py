"""The settings of remotes, as the operation log keeps them: where each is, never credentials."""

from __future__ import annotations

import msgspec

from vfs.backend.locations import Location, open_location
from vfs.backend.protocol import ObjectBackend
from vfs.backend.wrappers import RetryBackend, RetryPolicy
from vfs.errors import Corrupt, InvalidInput, VfsError
from vfs.model.decoding import UNDECODABLE
from vfs.remote.availability import WatchedBackend
from vfs.store.refs.operation_limits import SETTING_BYTES_MAX
from vfs.store.refs.refs import Refs

SETTING = "remote/"
"""Before a remote's name: the setting that says where it is."""
_READING = RetryPolicy(attempts=4, deadline_s=15.0)
"""A read that a program waits for ends within a bounded time, also without a network."""


class RemoteSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a remote is, and how safe it is. `single_writer`: the place ignores conditional writes."""

    url: str
    endpoint: str = ""
    region: str = ""
    single_writer: bool = False

    @property
    def location(self) -> Location:
        """Its address."""
        return Location(self.url, self.endpoint, self.region)


def encode_settings(settings: RemoteSettings) -> str:
    """Returns settings as the text of a setting; raises InvalidInput for what is too long."""
    text = msgspec.json.encode(settings).decode()
    if len(text.encode()) > SETTING_BYTES_MAX:
        raise InvalidInput("the address is too long", hint="Choose a shorter prefix.")
    return text


def decode_settings(text: str) -> RemoteSettings:
    """Returns the settings in a text; raises Corrupt."""
    try:
        return msgspec.json.decode(text, type=RemoteSettings)
    except UNDECODABLE as error:
        raise Corrupt(f"the settings of a remote cannot be read: {error}") from error


def open_for_reading(refs: Refs) -> list[ObjectBackend]:
    """Opens the backends of all remotes that can be opened; makes no request. Raises why none can be."""
    found: list[ObjectBackend] = []
    failure: Exception | None = None
    for _, text in refs.settings(SETTING):
        try:
            backend = open_location(decode_settings(text).location)
            found.append(WatchedBackend(RetryBackend(backend, _READING)))
        except (VfsError, OSError) as error:
            failure = error
    if failure is not None and not found:
        raise failure
    return found
