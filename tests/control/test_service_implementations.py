"""The table of services and the functions that perform them agree."""

from __future__ import annotations

import typing

import pytest

from vfs.control import messages, service_implementations, services
from vfs.control.service_implementations import FUNCTIONS
from vfs.control.services import SERVICES


def test_every_service_has_a_function() -> None:
    assert FUNCTIONS.keys() == SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_function_takes_and_returns_what_the_table_says(name: str) -> None:
    names = {**vars(messages), **vars(services), **vars(service_implementations)}
    hints = typing.get_type_hints(FUNCTIONS[name], names)
    parameters = list(hints.values())
    assert parameters[1] == SERVICES[name].args
    assert typing.get_args(hints["return"]) == (SERVICES[name].result,)
