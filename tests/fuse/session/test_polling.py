"""Waiting for the next request: poll, a short wait, and only then the event loop."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest
import trio

from vfs.fuse.session.polling import PollingLowlevel


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def parked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that the event loop was asked to wait for."""
    asked: list[int] = []
    park = trio.lowlevel.wait_readable

    async def wait_readable(descriptor: int) -> None:
        asked.append(descriptor)
        await park(descriptor)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
    return asked


def test_a_request_that_is_there_is_taken_at_once(pipe: tuple[int, int], parked: list[int]) -> None:
    os.write(pipe[1], b"1")
    trio.run(PollingLowlevel(None).wait_readable, pipe[0])
    assert parked == []


def test_a_request_that_was_read_before_is_taken_at_once(pipe: tuple[int, int], parked: list[int]) -> None:
    trio.run(PollingLowlevel(None, lambda: True).wait_readable, pipe[0])
    assert parked == []


def test_a_request_that_comes_in_a_moment_does_not_park_the_task(
    pipe: tuple[int, int], parked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = select.select

    def comes_meanwhile(*asked: object) -> object:
        os.write(pipe[1], b"1")
        return wait(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(select, "select", comes_meanwhile)
    trio.run(PollingLowlevel(None).wait_readable, pipe[0])
    assert parked == []


async def _written_when_parked(pipe: tuple[int, int], parked: list[int]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(PollingLowlevel(None).wait_readable, pipe[0])
        while not parked:
            await trio.lowlevel.checkpoint()
        os.write(pipe[1], b"1")


def test_the_event_loop_waits_for_a_later_request(pipe: tuple[int, int], parked: list[int]) -> None:
    trio.run(_written_when_parked, pipe, parked)
    assert parked == [pipe[0]]


def test_a_descriptor_that_select_does_not_take_is_parked(
    pipe: tuple[int, int], parked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise ValueError("filedescriptor out of range in select()")

    monkeypatch.setattr(select, "select", refuse)
    monkeypatch.setattr("vfs.fuse.session.polling._SELECT_MAX", 0)
    trio.run(_written_when_parked, pipe, parked)
    assert parked == [pipe[0]]
