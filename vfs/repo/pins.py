"""Pins: a small file beside the code that names one version of the data, and is checked against a repository."""

from __future__ import annotations

from typing import Literal

import msgspec

from vfs.errors import InvalidInput
from vfs.model.decoding import UNDECODABLE, Count
from vfs.model.ids import ID_BYTES, CommitId
from vfs.model.objects import Version
from vfs.repo.repository import Repository
from vfs.store.packs.blocks import MissingObject

PIN_BYTES_MAX = 1 << 16
_FORMAT = 1

PinState = Literal["same", "moved", "forgotten", "missing", "different"]


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """A version by what never changes: its commit and its tree (hex). The rest is for readers of the file.

    `format` is that of the file. `branch` and `version`: what the version was called where it was pinned.
    """

    format: Count
    commit: str
    tree: str
    branch: str = ""
    version: Count = 0
    files: Count = 0
    bytes: Count = 0
    time: str = ""


def pin_of(version: Version, branch: str, time: str) -> Pin:
    """Returns the pin of a version; `time` is the commit's, in words."""
    root = version.commit.root
    return Pin(
        _FORMAT,
        version.id.hex(),
        root.content.hex(),
        branch,
        version.commit.number,
        root.files,
        root.size,
        time,
    )


def encode_pin(pin: Pin) -> bytes:
    """Returns the bytes of the file: JSON, a field a line, so that a diff of the code shows what has changed."""
    return msgspec.json.format(msgspec.json.encode(pin), indent=2) + b"\n"


def decode_pin(data: bytes) -> Pin:
    """Returns what a file pins. Raises InvalidInput for anything else than a pin."""
    try:
        if len(data) > PIN_BYTES_MAX:
            raise InvalidInput("it is larger than any pin")
        pin = msgspec.json.decode(data, type=Pin)
        if pin.format > _FORMAT:
            raise InvalidInput(f"it has format {pin.format}; this program knows {_FORMAT}", hint="Upgrade the program.")
        if len(bytes.fromhex(pin.commit)) != ID_BYTES or len(bytes.fromhex(pin.tree)) not in (0, ID_BYTES):
            raise InvalidInput("its ids are no ids")
    except UNDECODABLE as error:
        raise InvalidInput(f"it is no pin: {error}") from error
    except ValueError as error:
        raise InvalidInput(f"it is no pin: {error}") from error
    return pin


def pin_state(repo: Repository, pin: Pin) -> PinState:
    """Compares a pin with a repository.

    `same`: the version is there, under the number that it was pinned as; `moved`: under no number, or another one;
    `forgotten`: its content was removed; `missing`: the repository has never had it; `different`: the file's tree is
    not that of its commit, so it was edited.
    """
    commit_id = CommitId(bytes.fromhex(pin.commit))
    if repo.refs.is_forgotten(commit_id):
        return "forgotten"
    try:
        commit = repo.store.get_commit(commit_id)
    except MissingObject:
        return "missing"
    if commit.root.content.hex() != pin.tree:
        return "different"
    return "same" if repo.refs.version(pin.branch, pin.version) == commit_id else "moved"
