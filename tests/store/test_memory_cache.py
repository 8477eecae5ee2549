"""ByteCache: bounded, grouped, least recently used first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.threads import together
from vfs.store.memory_cache import ByteCache


def test_the_least_recently_used_goes_first() -> None:
    cache: ByteCache[str] = ByteCache(30)
    for key in (b"a", b"b", b"c"):
        cache.put([(key, key.decode())], 10)
    assert cache.get(b"a") == "a"
    cache.put([(b"d", "d")], 10)
    assert [cache.get(key) for key in (b"a", b"b", b"c", b"d")] == ["a", None, "c", "d"]
    assert (cache.hits, cache.misses) == (4, 1)


def test_a_group_is_used_and_forgotten_as_one() -> None:
    cache: ByteCache[int] = ByteCache(30)
    cache.put([(b"a", 1), (b"b", 2)], 20)
    cache.put([(b"c", 3)], 10)
    assert cache.get(b"b") == 2
    cache.put([(b"d", 4)], 10)
    assert (cache.get(b"a"), cache.get(b"c")) == (1, None)
    cache.put([(b"e", 5)], 30)
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"e")) == (None, None, 5)


def test_a_key_that_came_again_survives_its_first_group() -> None:
    cache: ByteCache[int] = ByteCache(20)
    cache.put([(b"a", 1), (b"b", 2)], 10)
    cache.put([(b"b", 3)], 10)
    cache.put([(b"c", 4)], 10)
    assert (cache.get(b"a"), cache.get(b"b")) == (None, 3)


def test_an_object_larger_than_the_cache_is_not_kept() -> None:
    cache: ByteCache[int] = ByteCache(10)
    cache.put([(b"a", 1)], 10)
    cache.put([(b"b", 2)], 11)
    assert (cache.get(b"a"), cache.get(b"b")) == (1, None)
    cache.clear()
    assert (cache.get(b"a"), cache.bytes_held) == (None, 0)


@given(st.lists(st.tuples(st.lists(st.integers(0, 20), max_size=4), st.integers(0, 40)), max_size=60))
def test_the_bound_is_kept_and_values_are_never_another_keys(puts: list[tuple[list[int], int]]) -> None:
    cache: ByteCache[int] = ByteCache(100)
    for numbers, cost in puts:
        cache.put([(b"%d" % number, number) for number in numbers], cost)
        assert 0 <= cache.bytes_held <= 100
        for number in range(21):
            assert cache.get(b"%d" % number) in (None, number)


def test_threads_may_use_it_together() -> None:
    cache: ByteCache[int] = ByteCache(1000)

    def work(first: int) -> None:
        for turn in range(2000):
            number = (first + turn) % 50
            cache.put([(b"%d" % number, number), (b"%d" % (number + 50), number + 50)], 30)
            found = cache.get(b"%d" % ((number * 7) % 100))
            assert found in (None, (number * 7) % 100)

    together(4, work)
    assert cache.bytes_held <= 1000
