"""Packs against the index, both ways; with `read_data` every byte of every pack."""

from __future__ import annotations

from collections import Counter

import msgspec

from vfs.backend.protocol import MissingKey, ObjectBackend
from vfs.errors import REBUILD_HINT, Notice
from vfs.model.ids import CommitId
from vfs.store.packs.blocks import ObjectType
from vfs.store.packs.compression import Compression
from vfs.store.packs.index import Index, Location, backend_packs
from vfs.store.packs.pack_file import PackName, PackScan, scan_pack, verify_pack
from vfs.store.progress_callbacks import StageProgress


class PackFindings(msgspec.Struct):
    """The differences between packs and index.

    `commits`: all that there are. `bad`: objects that the index places where they cannot be read, with the reason.
    `damage`: what is wrong beside that. `notes`: oddities that are no damage.
    """

    packs: int = 0
    objects: int = 0
    bytes_read: int = 0
    commits: set[CommitId] = set()
    bad: dict[bytes, str] = {}
    damage: list[Notice] = []
    notes: list[str] = []


def check_packs(
    backend: ObjectBackend, index: Index, compression: Compression, *, read_data: bool, progress: StageProgress
) -> PackFindings:
    """Checks all packs; with `read_data` every stored byte is read once, pack by pack.

    Time is some microseconds for each object; memory follows one pack and what is damaged.
    """
    findings = PackFindings()
    known = {row.name: row.number for row in index.packs() if row.is_here}
    on_disk = list(backend_packs(backend))
    checked: dict[int, _Checked] = {}
    for done, (name, size) in enumerate(on_disk):
        progress("packs", done, len(on_disk))
        try:
            scan = (verify_pack if read_data else scan_pack)(backend, name, size, compression)
        except MissingKey:
            # A sweep has taken it meanwhile, or it is found missing below.
            continue
        findings.packs += 1
        findings.bytes_read += size if read_data else 0
        number = known.get(name)
        if number is None:
            findings.notes.append(f"{name.key} is not in the index; what it holds is used by no version, or missing")
            continue
        checked[number] = _matching(index, scan, findings, number)
    # Sweeps and commits go on: of what left the index, or came into it, meanwhile nothing is said.
    now = {row.number for row in index.packs()}
    for name, number in known.items():
        if number not in now:
            continue
        pack = checked.setdefault(number, _Checked(name, "the pack is missing"))
        if pack.reasons:
            findings.damage.append(Notice(f"{name.key}: {pack.reasons}"))
        if pack.unknown:
            findings.damage.append(Notice(f"the index lacks {pack.unknown} objects of {name.key}", REBUILD_HINT))
    findings.damage.extend(Notice(fault, REBUILD_HINT) for fault in index.faults())
    if any(pack.reasons for pack in checked.values()) or index.object_count() != sum(
        pack.right for pack in checked.values()
    ):
        _check_places(index, checked, findings)
    return findings


class _Checked(msgspec.Struct):
    """What was found of a pack: what is wrong with it, how many of its objects the index finds just there or not at
    all, and (where it is damaged) which it finds there."""

    name: PackName
    reasons: str = ""
    right: int = 0
    unknown: int = 0
    matching: set[bytes] = set()


def _matching(index: Index, scan: PackScan, findings: PackFindings, number: int) -> _Checked:
    reasons = "; ".join(sorted({damage.reason for damage in scan.damage}))
    found = _Checked(scan.info.name, reasons)
    for block in scan.info.blocks:
        for stored in block.objects:
            findings.objects += 1
            if stored.type == ObjectType.COMMIT:
                findings.commits.add(CommitId(stored.id))
            place = index.lookup(stored.id)
            if place is None:
                found.unknown += 1
            elif place == Location(number, block.offset, block.block_bytes, stored.size, stored.type):
                found.right += 1
                if reasons:
                    found.matching.add(stored.id)
    return found


def _check_places(index: Index, checked: dict[int, _Checked], findings: PackFindings) -> None:
    """Goes through the index for objects placed where no pack has them."""
    placed: Counter[int] = Counter()
    for object_id, place in index.locations():
        placed[place.pack] += 1
        pack = checked.get(place.pack)
        if pack is not None and pack.reasons and object_id not in pack.matching:
            findings.bad[object_id] = f"object {object_id.hex()} in {pack.name.key}: {pack.reasons}"
    numbers = {row.number for row in index.packs()}
    misplaced = 0
    for number, count in placed.items():
        if number in checked:
            misplaced += max(0, count - checked[number].right) if not checked[number].reasons else 0
        elif number not in numbers:
            misplaced += count
    if misplaced:
        text = f"the index places {misplaced} objects where no pack has them"
        findings.damage.append(Notice(text, REBUILD_HINT))
