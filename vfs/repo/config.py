"""`vfs.json`: what a repository is and how its bytes are made. Written when it is made; later it gains features only.

Everything in it decides how stored bytes are read, or that equal content gets equal ids; nothing is a preference.
A checksum over the other fields stands in the file: a flipped digit in a chunk size would show nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.errors import Advice, Corrupt, Hint, NotFound, Unsupported
from vfs.model.chunking import ChunkerParams, IngestParams
from vfs.model.decoding import UNDECODABLE
from vfs.model.ids import chunk_id
from vfs.store.packs.compression import LEVEL_DEFAULT, NODE_BLOCKS, Compression

FORMAT = 1
"""The newest repository format that this program reads and writes."""

RUNS_FEATURE = "runs"
"""The operation log has refs below `runs/`: records of runs. Set when the first run is recorded."""
REMOTES, LAZY = "remotes", "lazy"
"""Features: the operation log has refs of remotes; the index finds packs that only a remote has."""
FEATURES: frozenset[str] = frozenset({RUNS_FEATURE, REMOTES, LAZY, NODE_BLOCKS})
"""Features beyond the base format that this program knows. A repository that names another one is not opened."""


_NEWER = "Use a newer version of vfs for this repository."
_DAMAGED = "Put back a copy of vfs.json: it never changes, but for its features."


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A repository's constants.

    `id` is 32 random hex digits. Regular files of at most `tiny_bytes_max` bytes stand in tree nodes.
    `features` are the names that a program must know to read the repository; sorted.
    """

    format: int = FORMAT
    features: tuple[str, ...] = ()
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")] = msgspec.field(
        default_factory=lambda: os.urandom(16).hex()
    )
    chunker: ChunkerParams = ChunkerParams()
    tiny_bytes_max: Annotated[int, msgspec.Meta(ge=0, le=64 * 1024)] = IngestParams().tiny_bytes_max
    compression_level: Annotated[int, msgspec.Meta(ge=-7, le=19)] = LEVEL_DEFAULT

    @property
    def compression(self) -> Compression:
        """How what is written is compressed."""
        return Compression(self.compression_level, node_blocks=NODE_BLOCKS in self.features)

    @property
    def ingest(self) -> IngestParams:
        """The parameters of chunking and of storing a file's bytes."""
        return IngestParams(self.chunker, self.tiny_bytes_max)


class _Header(msgspec.Struct):
    """The fields that every `vfs.json` has, also of a newer format."""

    format: int
    features: tuple[str, ...] = ()


class _Checked(Config, frozen=True, kw_only=True):
    checksum: str


def encode_config(config: Config) -> bytes:
    """Returns the bytes of `vfs.json`."""
    fields = msgspec.to_builtins(config) | {"checksum": _checksum(config)}
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


def decode_config(data: bytes) -> Config:
    """Returns the configuration in the bytes of `vfs.json`.

    Raises Unsupported for a format or a feature that this program does not know, Corrupt for damage.
    """
    try:
        header = msgspec.json.decode(data, type=_Header)
    except UNDECODABLE as error:
        raise Corrupt(f"vfs.json cannot be read: {error}", hint=_DAMAGED) from error
    if header.format > FORMAT:
        raise Unsupported(f"the repository has format {header.format}; this program knows {FORMAT}", hint=_NEWER)
    unknown = sorted(set(header.features) - FEATURES)
    if unknown:
        raise Unsupported(f"the repository needs features that this program lacks: {', '.join(unknown)}", hint=_NEWER)
    try:
        checked = msgspec.json.decode(data, type=_Checked)
    except UNDECODABLE as error:
        raise Corrupt(f"vfs.json cannot be read: {error}", hint=_DAMAGED) from error
    config = Config(**{name: getattr(checked, name) for name in Config.__struct_fields__})
    if checked.checksum != _checksum(config):
        raise Corrupt("vfs.json does not match its checksum", hint=_DAMAGED)
    return config


def _checksum(config: Config) -> str:
    return chunk_id(msgspec.json.encode(config, order="sorted"))[:8].hex()


def read_config(backend: ObjectBackend, path: Path, key: str) -> Config:
    """Returns the settings of the repository in a directory, by their key. Raises NotFound, Corrupt, Unsupported."""
    hint = Hint(Advice.MAKE_REPOSITORY, {"path": str(path)})
    if not path.is_dir():
        raise NotFound(f"there is no repository at {path}", hint=hint)
    try:
        return decode_config(backend.read(key))
    except MissingKey as error:
        raise NotFound(f"{path} is not a repository: it has no {key}", hint=hint) from error
