"""TreeCache: bounded, by blocks, least recently used first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.threads import together
from vfs.model.ids import node_id
from vfs.store.packs.blocks import ObjectType
from vfs.store.packs.tree_blocks import TreeBlock
from vfs.store.tree_cache import TreeCache

NODE = ObjectType.NODE


def plain_of(number: int) -> bytes:
    return b"node %d" % number


def block_of(*numbers: int) -> TreeBlock:
    plains = [plain_of(number) for number in numbers]
    return TreeBlock([node_id(plain) for plain in plains], [len(plain) for plain in plains], b"".join(plains))


def found(cache: TreeCache, *numbers: int) -> list[int]:
    """Returns those of the nodes that the cache gives."""
    return [
        number for number in numbers if bytes(cache.get(node_id(plain_of(number)), NODE) or b"") == plain_of(number)
    ]


ROOM_FOR_TWO = 2 * block_of(1, 2).cost


def test_a_block_is_used_and_evicted_as_one() -> None:
    cache = TreeCache(ROOM_FOR_TWO)
    cache.put(block_of(1, 2))
    cache.put(block_of(3, 4))
    assert found(cache, 2) == [2]
    cache.put(block_of(5, 6))
    assert found(cache, 1, 2, 3, 4, 5, 6) == [1, 2, 5, 6]
    assert cache.holds(node_id(plain_of(1)))
    assert not cache.holds(node_id(plain_of(3)))


def test_an_object_that_came_again_survives_its_first_block() -> None:
    cache = TreeCache(ROOM_FOR_TWO)
    cache.put(block_of(1, 2))
    cache.put(block_of(2, 3))
    cache.put(block_of(4, 5))
    assert found(cache, 1, 2, 3, 4, 5) == [2, 3, 4, 5]


def test_a_block_larger_than_the_cache_is_not_kept() -> None:
    cache = TreeCache(ROOM_FOR_TWO)
    cache.put(block_of(*range(1000)))
    assert (found(cache, 1), cache.bytes_held) == ([], 0)
    cache.put(block_of(1, 2))
    cache.clear()
    assert (found(cache, 1), cache.bytes_held) == ([], 0)


def test_a_damaged_object_is_not_given() -> None:
    cache = TreeCache(ROOM_FOR_TWO)
    cache.put(TreeBlock([node_id(plain_of(1))], [6], b"node 2"))
    assert cache.get(node_id(plain_of(1)), NODE) is None


@given(st.lists(st.lists(st.integers(0, 20), min_size=1, max_size=6, unique=True), max_size=40))
def test_the_bound_is_kept_and_an_object_is_never_another(puts: list[list[int]]) -> None:
    cache = TreeCache(2 * ROOM_FOR_TWO)
    for numbers in puts:
        cache.put(block_of(*numbers))
        assert 0 <= cache.bytes_held <= cache.bytes_max
        assert found(cache, *numbers) == numbers
        for number in range(21):
            assert cache.get(node_id(plain_of(number)), NODE) in (None, plain_of(number))


def test_threads_may_use_it_together() -> None:
    cache = TreeCache(4 * ROOM_FOR_TWO)

    def work(first: int) -> None:
        for turn in range(1000):
            number = (first + turn) % 50
            cache.put(block_of(number, number + 50))
            other = (number * 7) % 100
            assert cache.get(node_id(plain_of(other)), NODE) in (None, plain_of(other))

    together(4, work)
    assert cache.bytes_held <= cache.bytes_max
