"""Which index objects a push merges, so that their number stays small however many pushes there were.

The pusher merges inside its own compare-and-swap; nothing else maintains the index. A small object at the end grows
with each push up to TAIL_BYTES; from there on each object is at least twice as large as the next one, up to the size
limit. So their number follows the logarithm of the index's size, and each entry is written about as often.
"""

from __future__ import annotations

from collections.abc import Sequence

from vfs.remote.format import INDEX_BYTES_MAX, IndexName

TAIL_BYTES = 256 * 1024


def merged_from(indexes: Sequence[IndexName], new_bytes: int) -> int:
    """Returns how many of the index objects stay, from the first on; the new one replaces those behind them."""
    kept, size = len(indexes), new_bytes
    while kept:
        last = indexes[kept - 1].size
        if size + last > INDEX_BYTES_MAX or (size + last > TAIL_BYTES and last >= 2 * size):
            break
        size += last
        kept -= 1
    return kept
