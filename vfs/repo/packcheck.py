"""Packs against the index, both ways; with `read_data` every byte of every pack."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from vfs.backend.base import Backend, MissingKey
from vfs.errors import REBUILD_HINT
from vfs.store.compression import Compression
from vfs.store.index import Index, Location, backend_packs
from vfs.store.packs import PackName, PackScan, scan_pack, verify_pack

Progress = Callable[[int, int], None]
"""(packs done, packs in all)"""


class PackFindings(msgspec.Struct):
    """What packs and index say of each other.

    `bad`: objects that the index places where they cannot be read, with the reason. `damage`: what is wrong beside
    that. `notes`: what is odd and harms nobody.
    """

    packs: int = 0
    objects: int = 0
    bytes_read: int = 0
    bad: dict[bytes, str] = {}
    damage: list[str] = []
    notes: list[str] = []


def check_packs(
    backend: Backend, index: Index, compression: Compression, *, read_data: bool, progress: Progress
) -> PackFindings:
    """Checks all packs; with `read_data` every stored byte is read once, pack by pack.

    Time is some microseconds for each object; memory follows one pack and what is damaged.
    """
    findings = PackFindings()
    numbers = {row.name: row.number for row in index.packs()}
    on_disk = list(backend_packs(backend))
    suspects: dict[int, tuple[PackName, str, set[bytes]]] = {}
    right = 0
    for done, (name, size) in enumerate(on_disk):
        progress(done, len(on_disk))
        try:
            scan = (verify_pack if read_data else scan_pack)(backend, name, size, compression)
        except MissingKey:
            continue
        findings.packs += 1
        findings.bytes_read += size if read_data else 0
        number = numbers.pop(name, None)
        if number is None:
            findings.notes.append(f"{name.key} is not in the index; what it holds is used by no version, or missing")
            continue
        matching = _matching(index, scan, number, findings)
        right += len(matching)
        if scan.damage:
            reasons = "; ".join(sorted({damage.reason for damage in scan.damage}))
            findings.damage.append(f"{name.key}: {reasons}")
            suspects[number] = (name, reasons, matching)
    for name, number in numbers.items():
        findings.damage.append(f"{name.key} is missing")
        suspects[number] = (name, "the pack is missing", set())
    if suspects or right != index.object_count():
        _check_places(index, suspects, findings, right)
    return findings


def _matching(index: Index, scan: PackScan, number: int, findings: PackFindings) -> set[bytes]:
    """Returns the objects of a pack that the index finds just there."""
    matching: set[bytes] = set()
    unknown = 0
    for block in scan.info.blocks:
        for stored in block.objects:
            findings.objects += 1
            place = index.lookup(stored.id)
            if place is None:
                unknown += 1
            elif place == Location(number, block.offset, block.block_bytes, stored.size, stored.type):
                matching.add(stored.id)
    if unknown:
        findings.damage.append(f"the index lacks {unknown} objects of {scan.info.name.key}. {REBUILD_HINT}")
    return matching


def _check_places(
    index: Index, suspects: dict[int, tuple[PackName, str, set[bytes]]], findings: PackFindings, right: int
) -> None:
    """Goes through the index for objects placed where no pack has them."""
    for object_id, place in index.locations():
        suspect = suspects.get(place.pack)
        if suspect is not None and object_id not in suspect[2]:
            name, reason, _ = suspect
            findings.bad[object_id] = f"object {object_id.hex()} in {name.key}: {reason}"
    misplaced = index.object_count() - right - len(findings.bad)
    if misplaced > 0:
        findings.damage.append(f"the index places {misplaced} objects where no pack has them. {REBUILD_HINT}")
