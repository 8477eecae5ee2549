"""Damage to the files of a repository, as disks, copies, programs and people cause it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from support.damage_scenes import Scene


class Damage(NamedTuple):
    """A damage to a repository: which file, and how; `keeps_index`: the index is still there."""

    scene: int
    path: str
    how: str
    seed: int
    keeps_index: bool


Change = Callable[[random.Random, Scene, Path, str], None]


def _rewrite(path: Path, data: bytes) -> None:
    """Replaces a file's bytes in place; one that other names have is made this name's own first."""
    if path.stat().st_nlink > 1:
        path.unlink()
        path.touch(0o600)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(data)


def _flip_bit(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    data = bytearray((root / name).read_bytes())
    data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    _rewrite(root / name, bytes(data))


def _other_byte(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    data = bytearray((root / name).read_bytes())
    data[chosen.randrange(len(data))] = chosen.randrange(256)
    _rewrite(root / name, bytes(data))


def _truncate(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    data = (root / name).read_bytes()
    _rewrite(root / name, data[: chosen.choice((0, len(data) - 1, chosen.randrange(len(data))))])


def _cut_line(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    """Cuts behind a whole line, or a whole page."""
    data = (root / name).read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10] or [0]
    _rewrite(root / name, data[: chosen.choice((chosen.choice(ends), len(data) // 4096 * 4096))])


def _zero(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    data = bytearray((root / name).read_bytes())
    size = chosen.choice((8, 512, 4096))
    at = chosen.randrange(len(data)) // size * size
    data[at : at + size] = bytes(len(data[at : at + size]))
    _rewrite(root / name, bytes(data))


def _drop_piece(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    data = (root / name).read_bytes()
    at, size = chosen.randrange(len(data)), chosen.choice((1, 48, 512, 4096))
    _rewrite(root / name, data[:at] + data[at + size :])


def _append(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    data = (root / name).read_bytes()
    more = chosen.choice((chosen.randbytes(chosen.randrange(1, 600)), bytes(512), data[-200:], data))
    _rewrite(root / name, data + more)


def _delete(_chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    (root / name).unlink()


def _swap(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    """Exchanges two files of the same kind."""
    like = [other for other in files(root) if other != name and kind_of(other) == kind_of(name)]
    if not like:
        return
    other = chosen.choice(like)
    (root / name).rename(root / "aside")
    (root / other).rename(root / name)
    (root / "aside").rename(root / other)


def _bring_back(chosen: random.Random, scene: Scene, root: Path, name: str) -> None:
    """Puts an older state of the file in its place."""
    older = [stage / name for stage in scene.stages if (stage / name).is_file()]
    if older:
        _rewrite(root / name, chosen.choice(older).read_bytes())


def _copy_over(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    """Puts a copy of another file of the same kind in its place."""
    like = [other for other in files(root) if other != name and kind_of(other) == kind_of(name)]
    if like:
        _rewrite(root / name, (root / chosen.choice(like)).read_bytes())


def _copy_beside(chosen: random.Random, _scene: Scene, root: Path, name: str) -> None:
    """Leaves a copy under another name, as people do before they try something."""
    stem, _, number = name.rpartition("-")
    names = [f"{name}.bak", f"{name}~", f"{name} (1)", f"{name}.new"]
    if number.isdigit():
        names += [f"{stem}-{int(number) + 1}", f"{stem}-{int(number) - 1}", f"{stem}-0{number}"]
    target = root / chosen.choice(names)
    if not target.exists():
        shutil.copyfile(root / name, target)


CHANGES: dict[str, Change] = {
    "flip a bit": _flip_bit,
    "another byte": _other_byte,
    "truncate": _truncate,
    "cut behind a line": _cut_line,
    "zero a block": _zero,
    "drop a piece": _drop_piece,
    "append": _append,
    "delete": _delete,
    "swap": _swap,
    "bring back an older state": _bring_back,
    "copy another over it": _copy_over,
    "copy beside": _copy_beside,
}
_OFTEN = ("flip a bit",) * 4 + ("truncate", "delete", "zero a block")


_LIVE = ("flip a bit", "another byte", "zero a block", "append", "delete", "copy beside", "copy another over it")
"""Damage to journals that a process appends to: only that process can know what it lost at the end."""


def files(root: Path) -> list[str]:
    """Returns the files of a repository, sorted."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def kind_of(name: str) -> str:
    """Returns what kind of file a name is: damage is spread over kinds, not over how many files each has."""
    parts = Path(name).parts
    if parts[0] == "packs":
        return "/".join(parts[:2])
    if parts[0] == "work" and len(parts) == 3:
        return "work/" + parts[2].partition("-")[0]
    return name


@cache
def _by_kind(path: Path) -> dict[str, list[str]]:
    by_kind: dict[str, list[str]] = {}
    for name in files(path):
        by_kind.setdefault(kind_of(name), []).append(name)
    return by_kind


def chosen_damage(scenes: Sequence[Scene], number: int, seed: int) -> Damage:
    """Returns the damage of a round."""
    chosen = random.Random(f"{seed} {number}")
    scene = chosen.randrange(len(scenes))
    by_kind = _by_kind(scenes[scene].path)
    kinds = sorted(by_kind)
    if scenes[scene].is_live:
        kinds = [kind for kind in kinds if kind.startswith("work/")]
    path = chosen.choice(by_kind[chosen.choice(kinds)])
    how = chosen.choice(_LIVE if scenes[scene].is_live else (*CHANGES, *_OFTEN))
    # A log that was cut behind a line, or is an older one, is known by the index: without it, too, nothing can tell.
    is_shorter = path == "log" and how in ("cut behind a line", "bring back an older state")
    keeps_index = scenes[scene].is_live or is_shorter or path.startswith("index/") or chosen.random() < 0.7
    return Damage(scene, path, how, chosen.randrange(1 << 32), keeps_index)


def apply_damage(scene: Scene, damage: Damage, root: Path) -> bool:
    """Damages a copy of a scene's repository; False where nothing changed."""
    before = _state(root)
    if not (root / damage.path).stat().st_size and damage.how not in ("delete", "append", "copy beside"):
        return False
    CHANGES[damage.how](random.Random(damage.seed), scene, root, damage.path)
    return _state(root) != before


def _state(root: Path) -> dict[str, int]:
    return {name: hash((root / name).read_bytes()) for name in files(root)}
