"""Libraries of every command, imported without what takes a third of their time and is not used for a command."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def import_libraries() -> None:
    """Imports msgspec, click and zstandard.

    `typing` has what msgspec takes from `typing_extensions`. `uuid` and zstandard ask `platform` for names of the
    system and the interpreter, click asks `inspect` about the texts of options.
    """
    stand_ins = {"typing_extensions": None, "platform": _Platform("platform"), "inspect": _Inspect("inspect")}
    absent = [name for name in stand_ins if name not in sys.modules]
    for name in absent:
        # None is the import system's word for a module that is not there.
        sys.modules[name] = stand_ins[name]  # type: ignore[assignment]
    try:
        import click  # noqa: F401
        import msgspec  # noqa: F401

        import vfs.store.packs.compression  # noqa: F401
    finally:
        for name in absent:
            if sys.modules[name] is stand_ins[name]:
                del sys.modules[name]


def _real(stand_in: ModuleType) -> ModuleType:
    """Returns the module that another one stands for."""
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    return importlib.import_module(stand_in.__name__)


class _Platform(ModuleType):
    """Stands for `platform` in libraries that ask for names as they are imported."""

    def system(self) -> str:
        """Returns the name of the system."""
        return os.uname().sysname

    def python_implementation(self) -> str:
        """Returns the name of the interpreter."""
        name = sys.implementation.name
        return "CPython" if name == "cpython" else str(self.__getattr__("python_implementation")())

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self), name)


class _Inspect(ModuleType):
    """Stands for `inspect` in click, and imports that for all but texts of one line."""

    def cleandoc(self, text: str) -> str:
        """Returns a text without the indentation of its lines."""
        return str(self.__getattr__("cleandoc")(text)) if "\n" in text or "\t" in text else text.strip()

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self), name)
