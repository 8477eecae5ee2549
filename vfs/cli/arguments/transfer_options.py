"""What commands that move bytes share: limits of rate, a bar that counts bytes, and the words for both."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from vfs.cli.terminal.output import warn
from vfs.cli.terminal.progress import Bar
from vfs.formats.quantities import human_size
from vfs.remote.disk_cache import CACHE_BYTES_MIN, SegmentCache
from vfs.remote.lazy_packs import segments_of
from vfs.repo.transfer.byte_transfer import Pace

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_CACHE_BYTES_MAX = 1 << 50


class RateType(click.ParamType[float]):
    """Bytes a second, as `500K` or `10M`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the rate; fails for anything else."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?(?:/s)?", value.lower())
        if match is None or float(match[1]) == 0:
            self.fail(f"{value!r} is no rate. Write it in bytes a second: 500K, 10M.", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


class SizeType(click.ParamType[int]):
    """A size on disk, as `500M`, `50G` or `2T`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the bytes; fails for anything else, and for less than a cache needs."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt])(?:i?b)?", value.lower())
        if match is None:
            self.fail(f"{value!r} is no size. Write it as 500M, 50G or 2T.", param, ctx)
        size = float(match[1]) * _UNITS[match[2]]
        if not CACHE_BYTES_MIN <= size <= _CACHE_BYTES_MAX:
            self.fail(f"{value!r} is too little or too much. A cache has 16M to 1024T.", param, ctx)
        return int(size)


def set_cache_bound(repository: Path, size: int) -> None:
    """Sets the bound of a repository's cache of remote contents; warns where another process keeps the old one."""
    with suppress(OSError):
        found = SegmentCache.open(segments_of(repository), size).size
        if abs(found - size) > CACHE_BYTES_MIN:
            warn(f"the cache is in use with {human_size(found)}: it gets another bound when nothing is mounted from it")
        return
    warn("nothing can be kept on disk here: everything is fetched each time")


def limit_option(direction: str) -> Callable[[F], F]:
    """Adds `--limit-upload` or `--limit-download`, given to the function as `limit`."""
    return click.option(
        f"--limit-{direction}", "limit", type=RateType(), metavar="RATE", help="Bytes a second at most, as 500K or 10M."
    )


def pace(limit: float | None) -> Pace | None:
    """Returns what holds a transfer to a rate, None without one."""
    return Pace(limit) if limit is not None else None


class ByteBar(Bar):
    """A bar that is called as `progress(done, total)` with bytes; it shows the rate and the time that is left."""

    def __init__(self, verb: str, clock: Callable[[], float] = time.monotonic, stream: TextIO | None = None) -> None:
        super().__init__(clock, stream)
        self._verb = verb
        self._done = 0
        self._total: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        self._done, self._total = done, total
        self._redraw_if_due()

    def _state(self) -> tuple[int, int | None, dict[str, Any]]:
        shape: dict[str, Any] = {"prefix": self._verb, "unit": "B", "unit_scale": True, "unit_divisor": 1024}
        total = max(self._total, self._done) if self._total else None
        return self._done, total, shape
