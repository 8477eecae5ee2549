"""The small objects of a remote: `vfs-remote.json`, `root`, index objects, log lines. Layout: docs/remote-format.md.

Other users can write to a remote, so they are not trusted: sizes are bounded before memory is allocated, every field
is checked, and no name becomes a path unless its pattern allows it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from vfs.errors import Corrupt, TooLarge, Unsupported
from vfs.model.chunking import ChunkerParams
from vfs.model.decoding import COUNT_MAX, UNDECODABLE, Count, Moment
from vfs.model.ids import RunningHash, check64
from vfs.model.names import BRANCH_NAME_BYTES_MAX, is_run_name, ref_name_fault
from vfs.store.packs.compression import NODE_BLOCKS, BadFrame, Codec, Compression
from vfs.store.packs.pack_file import PACK_BYTES_MAX, BadPack, PackInfo, PackKind, PackName, info_of_table, parse_key
from vfs.store.refs.operation import BRANCHES, RUNS, TAGS, Note

FORMAT = 1
ROOT_FORMAT = 2
"""Of a root with refs of runs. One without them has format 1, so that older programs go on with it."""
FEATURES = frozenset({NODE_BLOCKS})
"""Features of a remote that this program knows. `encrypted` is kept for packs whose blocks a key of the repository
encrypts; a program that does not know it refuses the remote."""

CONFIG_KEY, ROOT_KEY = "vfs-remote.json", "root"
INDEX_PREFIX, LOG_PREFIX = "index/", "log/"
CONFIG_BYTES_MAX = 64 * 1024
ROOT_BYTES_MAX = 4 * 1024 * 1024
"""Of a stored root; decompressed it may have four times as much."""
INDEX_BYTES_MAX = 16 * 1024 * 1024
CHAIN_MAX = 1024
"""Nonces of past roots in a root. A push whose nonce is among them has happened."""
RECENT_MAX = 32
"""The most pushes that a root lists."""

_ROOT_MAGIC = b"VFSROOT\x01"
_ROOT_HEAD = struct.Struct("<8sI8s")
_INDEX_MAGIC = b"VFSRIDX\x01"
_PLAIN_BYTES_MAX = 4 * ROOT_BYTES_MAX
_NAME_HEX = 32
_INDEX_KEY = re.compile(r"index/[0-9a-f]{32}")
_INDEX_NONCE_BYTES = 8
_STORED_BYTES_MAX = 1 + 1 + (2 + 16) + 5 + 5
"""Of a pack in MessagePack, without its table."""
_INDEX_HEAD_BYTES = len(_INDEX_MAGIC) + _INDEX_NONCE_BYTES
_DAMAGED = "The remote is damaged, or another program has written to it. Nothing was changed here."
_NEWER = "Use a newer version of vfs for this remote."
_COMPRESSION = Compression()

Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
HashOrEmpty = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
Nonce = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
Text = Annotated[str, msgspec.Meta(max_length=1000)]
PackBytes = Annotated[int, msgspec.Meta(ge=0, le=PACK_BYTES_MAX)]

S = TypeVar("S")


class RemoteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a remote is: written once. `id` is that of the repository, whose chunks are cut as `chunker` says."""

    format: int = FORMAT
    features: tuple[str, ...] = ()
    id: Hex32
    chunker: ChunkerParams
    tiny_bytes_max: Annotated[int, msgspec.Meta(ge=0, le=64 * 1024)]
    checksum: str = ""


class RefMove(msgspec.Struct, frozen=True):
    """What a push did to a ref: commits in hex (empty: none) and their version numbers (0: none)."""

    name: Text
    old: HashOrEmpty
    new: HashOrEmpty
    old_number: Count = 0
    new_number: Count = 0


class PushLine(msgspec.Struct, frozen=True):
    """One push. `previous` is the hash of the log object before, empty for the first.

    `refs`: branches and tags. `runs`: how many refs of runs came, changed or went.
    """

    seq: Count
    nonce: Nonce
    time_ns: Moment
    author: Text
    refs: tuple[RefMove, ...]
    bytes: Count = 0
    previous: HashOrEmpty = ""
    runs: Count = 0

    @property
    def key(self) -> str:
        """Where the remote keeps it."""
        return f"{LOG_PREFIX}{self.seq:015d}-{self.nonce}.json"


class IndexName(msgspec.Struct, frozen=True, array_like=True):
    """An index object as the root names it: the first hex digits of its hash, its bytes, the packs in it."""

    name: Hex32
    size: Annotated[int, msgspec.Meta(ge=0, le=INDEX_BYTES_MAX)]
    packs: Count

    @property
    def key(self) -> str:
        """Where the remote keeps it."""
        return f"{INDEX_PREFIX}{self.name}"


class Root(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state of a remote; each is followed by one with the next `seq`, a fresh `nonce` and the hash of this one.

    `refs`: full names (`branches/main`) to commits. `protected`: those that stay where they are. `forgotten`: commits
    to when they were. `replaced`: commits that a purge has put others in the place of, and these. `chain`: nonces of
    the states up to this one, the newest last. `retiring` and `tombstones`: keys of packs and index objects that a
    sweep will remove, or removes, and when that was decided. `swept`: the number of the last root made by a sweep.
    """

    format: int
    id: Hex32
    seq: Count
    nonce: Nonce
    previous: HashOrEmpty = ""
    time_ns: Moment = 0
    refs: dict[Text, Hash] = {}
    protected: tuple[Text, ...] = ()
    notes: dict[Hash, Note] = {}
    forgotten: dict[Hash, Count] = {}
    replaced: dict[Hash, Hash] = {}
    indexes: tuple[IndexName, ...] = ()
    chain: tuple[Nonce, ...] = ()
    recent: tuple[PushLine, ...] = ()
    log: HashOrEmpty = ""
    retiring: dict[Text, Moment] = {}
    tombstones: dict[Text, Moment] = {}
    swept: Count = 0


def hash_of(data: bytes) -> str:
    """Returns the hash that names an object of a remote."""
    running = RunningHash()
    running.update(data)
    return running.hex()


def encode_config(config: RemoteConfig) -> bytes:
    """Returns the bytes of `vfs-remote.json`."""
    sealed = msgspec.structs.replace(config, checksum=_checksum(config))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def decode_config(data: bytes) -> RemoteConfig:
    """Returns the configuration; raises Unsupported for what this program does not know, Corrupt for damage."""
    _bound(CONFIG_KEY, data, CONFIG_BYTES_MAX)
    header = _decode(CONFIG_KEY, data, dict[str, Any])
    found, features = header.get("format"), header.get("features", [])
    if isinstance(found, int) and found > FORMAT:
        raise Unsupported(f"the remote has format {found}; this program knows {FORMAT}", hint=_NEWER)
    unknown = sorted(set(map(str, features)) - FEATURES) if isinstance(features, list) else []
    if unknown:
        raise Unsupported(f"the remote needs features that this program lacks: {', '.join(unknown)}", hint=_NEWER)
    config = _decode(CONFIG_KEY, data, RemoteConfig)
    if config.checksum != _checksum(config):
        raise Corrupt("vfs-remote.json does not match its checksum", hint=_DAMAGED)
    return config


def encode_root(root: Root) -> bytes:
    """Returns the bytes of a root; raises TooLarge."""
    plain = msgspec.json.encode(root)
    codec, payload = _COMPRESSION.compress(plain, is_dense=True)
    del codec  # A reader tells a frame by its length: what does not shrink is stored as it is.
    data = _ROOT_HEAD.pack(_ROOT_MAGIC, len(plain), check64(plain)) + bytes(payload)
    if len(data) > ROOT_BYTES_MAX or len(plain) > _PLAIN_BYTES_MAX:
        raise TooLarge(
            "the remote's refs, notes and lists are more than its root can hold",
            hint="Remove branches, tags and runs that are not needed any more, then push again.",
        )
    return data


def decode_root(data: bytes) -> Root:
    """Returns the state in the bytes of a root; raises Corrupt, Unsupported."""
    _bound(ROOT_KEY, data, ROOT_BYTES_MAX)
    if len(data) < _ROOT_HEAD.size:
        raise Corrupt("the remote's root is cut short", hint=_DAMAGED)
    magic, size, check = _ROOT_HEAD.unpack_from(data)
    if magic != _ROOT_MAGIC or size > _PLAIN_BYTES_MAX:
        raise Corrupt("the remote's root is none", hint=_DAMAGED)
    payload = memoryview(data)[_ROOT_HEAD.size :]
    try:
        plain = _COMPRESSION.decompress(Codec.RAW if len(payload) == size else Codec.ZSTD, payload, size)
    except BadFrame as error:
        raise Corrupt(f"the remote's root cannot be read: {error.message}", hint=_DAMAGED) from error
    if check64(plain) != check:
        raise Corrupt("the remote's root does not match its checksum", hint=_DAMAGED)
    root = _decode(ROOT_KEY, bytes(plain), Root)
    if root.format > ROOT_FORMAT:
        raise Unsupported(f"the remote has format {root.format}; this program knows {ROOT_FORMAT}", hint=_NEWER)
    _check_root(root)
    return root


def _check_root(root: Root) -> None:
    for name in (*root.refs, *root.protected):
        fault = remote_ref_fault(name)
        if fault:
            raise Corrupt(f"the remote names a ref {name[:80]!r}: {fault}", hint=_DAMAGED)
    if not root.chain or root.chain[-1] != root.nonce or len(root.chain) > CHAIN_MAX:
        raise Corrupt("the remote's root does not name itself", hint=_DAMAGED)
    for key in (*root.retiring, *root.tombstones):
        if not can_go(key):
            # A sweep deletes what is named here.
            raise Corrupt(f"the remote's root lets a sweep remove {key[:80]!r}", hint=_DAMAGED)
    if sum(index.packs for index in root.indexes) > COUNT_MAX:
        raise Corrupt("the remote's root counts more packs than there can be", hint=_DAMAGED)


def root_format(refs: Mapping[str, str]) -> int:
    """Returns the format that a root with some refs has: the oldest that has room for them."""
    return ROOT_FORMAT if any(name.startswith(RUNS) for name in refs) else FORMAT


def can_go(key: str) -> bool:
    """Returns True if a sweep may remove what is under a key: a pack or an index object."""
    return parse_key(key) is not None or _INDEX_KEY.fullmatch(key) is not None


def remote_ref_fault(name: str) -> str:
    """Returns why a remote cannot have a ref of this name; empty for one that it can have."""
    if name.startswith(BRANCHES):
        return ref_name_fault(name.removeprefix(BRANCHES), BRANCH_NAME_BYTES_MAX)
    if name.startswith(TAGS):
        return ref_name_fault(name.removeprefix(TAGS))
    if name.startswith(RUNS):
        return "" if is_run_name(name.removeprefix(RUNS)) else "this is no name of a run"
    return "a ref's name begins with `branches/`, `tags/` or `runs/`"


class StoredPack(msgspec.Struct, frozen=True, array_like=True):
    """A pack in an index object: kind, the 16 bytes of its name, its size, and the table of its trailer."""

    kind: Annotated[int, msgspec.Meta(ge=1, le=2)]
    name: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    size: PackBytes
    table: bytes

    @property
    def pack(self) -> PackName:
        """The pack's name."""
        return PackName(PackKind(self.kind), self.name.hex())

    def info(self) -> PackInfo:
        """Returns where the pack's blocks lie; raises Corrupt where the table cannot be that of such a pack."""
        try:
            return info_of_table(self.pack, self.size, self.table)
        except BadPack as error:
            raise Corrupt(f"the remote's index of {self.pack.key}: {error.message}", hint=_DAMAGED) from error


def encode_index(packs: Sequence[StoredPack]) -> tuple[IndexName, bytes]:
    """Returns an index object and its name, which no other one has; raises TooLarge."""
    data = _INDEX_MAGIC + os.urandom(_INDEX_NONCE_BYTES) + msgspec.msgpack.encode(packs)
    if len(data) > INDEX_BYTES_MAX:
        raise TooLarge("an index object has too many packs")
    return IndexName(hash_of(data)[:_NAME_HEX], len(data), len(packs)), data


def index_bytes_max(packs: Sequence[StoredPack]) -> int:
    """Returns how many bytes an index object with some packs may have, some 10 for each pack more than it has."""
    return _INDEX_HEAD_BYTES + 5 + sum(_STORED_BYTES_MAX + len(stored.table) for stored in packs)


def decode_index(name: IndexName, data: bytes) -> list[StoredPack]:
    """Returns the packs in an index object; raises Corrupt where the bytes are not those that the name stands for."""
    _bound(name.key, data, INDEX_BYTES_MAX)
    if hash_of(data)[:_NAME_HEX] != name.name or not data.startswith(_INDEX_MAGIC):
        raise Corrupt(f"the remote's {name.key} does not match its name", hint=_DAMAGED)
    try:
        packs = msgspec.msgpack.decode(memoryview(data)[_INDEX_HEAD_BYTES:], type=list[StoredPack])
    except UNDECODABLE as error:
        raise Corrupt(f"the remote's {name.key} cannot be read: {error}", hint=_DAMAGED) from error
    if len(packs) != name.packs:
        raise Corrupt(f"the remote's {name.key} has {len(packs)} packs, not {name.packs}", hint=_DAMAGED)
    return packs


def index_name(name: str, data: bytes) -> IndexName:
    """Returns the whole name of an index object that was kept; how many packs it has is in its bytes."""
    head = data[_INDEX_HEAD_BYTES : _INDEX_HEAD_BYTES + 5]
    if not head:
        count = 0
    elif head[0] & 0xF0 == 0x90:
        count = head[0] & 0x0F
    else:
        count = int.from_bytes(head[1 : 3 if head[0] == 0xDC else 5], "big")
    return IndexName(name, len(data), count)


def encode_line(line: PushLine) -> bytes:
    """Returns the bytes of a log object."""
    return msgspec.json.encode(line) + b"\n"


def _decode(key: str, data: bytes, kind: type[S]) -> S:
    try:
        return msgspec.json.decode(data, type=kind)
    except UNDECODABLE as error:
        raise Corrupt(f"the remote's {key} cannot be read: {error}", hint=_DAMAGED) from error


def _bound(key: str, data: bytes, bytes_max: int) -> None:
    if len(data) > bytes_max:
        raise Corrupt(f"the remote's {key} has {len(data)} bytes; {bytes_max} are the most", hint=_DAMAGED)


def _checksum(config: RemoteConfig) -> str:
    fields = msgspec.structs.replace(config, checksum="")
    return check64(msgspec.json.encode(fields, order="sorted")).hex()
