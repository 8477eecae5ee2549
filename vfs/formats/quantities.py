"""Sizes and counts in words."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def human_size(size_bytes: int) -> str:
    """Returns a number of bytes as people read it: `17 B`, `1.4 MiB`."""
    amount, unit = float(size_bytes), 0
    while amount >= 1023.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{size_bytes} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def human_count(count: int, noun: str) -> str:
    """Returns `1 file`, `12,000 files`, `2 entries`, `3 branches`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("ch", "sh")) else "s")
    return f"{count:,} {noun if count == 1 else plural}"
