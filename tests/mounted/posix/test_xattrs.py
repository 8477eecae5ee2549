"""Extended attributes: flags, limits, namespaces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.calls import DONE, KINDS, answer, make, outcome, touch

pytestmark = pytest.mark.mount


@pytest.fixture
def file(place: Path) -> Path:
    """Returns a file."""
    touch(place / "file")
    return place / "file"


def test_create_and_replace_look_whether_it_is_there(file: Path) -> None:
    assert outcome(lambda: os.setxattr(file, "user.key", b"1", os.XATTR_REPLACE)) == "ENODATA"
    assert outcome(lambda: os.setxattr(file, "user.key", b"1", os.XATTR_CREATE)) == DONE
    assert outcome(lambda: os.setxattr(file, "user.key", b"2", os.XATTR_CREATE)) == "EEXIST"
    assert os.getxattr(file, "user.key") == b"1"
    assert outcome(lambda: os.setxattr(file, "user.key", b"3", os.XATTR_REPLACE)) == DONE
    assert outcome(lambda: os.setxattr(file, "user.key", b"4", os.XATTR_CREATE | os.XATTR_REPLACE)) != DONE
    assert os.getxattr(file, "user.key") == b"3"
    os.removexattr(file, "user.key")
    assert outcome(lambda: os.getxattr(file, "user.key")) == "ENODATA"
    assert outcome(lambda: os.removexattr(file, "user.key")) == "ENODATA"


def test_names_and_values_have_limits(file: Path) -> None:
    longest = "user." + "n" * 250
    os.setxattr(file, longest, b"")
    assert os.getxattr(file, longest) == b""
    assert outcome(lambda: os.setxattr(file, longest + "n", b"")) == "ERANGE"
    assert outcome(lambda: os.setxattr(file, "user.large", bytes(65537))) == "E2BIG"
    assert outcome(lambda: os.setxattr(file, "user.large", bytes(65536))) in (DONE, "ENOSPC")
    assert outcome(lambda: os.setxattr(file, "", b"")) in ("ERANGE", "EOPNOTSUPP")


def test_values_are_any_bytes_and_there_are_many(file: Path) -> None:
    values = {f"user.{number}": bytes([number]) * number for number in range(50)}
    for name, value in values.items():
        os.setxattr(file, name, value)
    found = {name: os.getxattr(file, name) for name in os.listxattr(file) if name.startswith("user.")}
    assert found == values
    for name in values:
        os.removexattr(file, name)
    assert not [name for name in os.listxattr(file) if name.startswith("user.")]


NAMES = ["user.key", "trusted.key", "security.key", "system.key", "nothing", "other.key", "user.", "trusted.", "user"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_which_namespaces_there_are(kind: str, name: str, local: Path, inside: Path) -> None:
    told = []
    for place in (local, inside):
        path = place / "it"
        make(path, kind)
        calls = (
            lambda p=path: os.setxattr(p, name, b"value", follow_symlinks=False),
            lambda p=path: os.getxattr(p, name, follow_symlinks=False),
            lambda p=path: name in os.listxattr(p, follow_symlinks=False),
            lambda p=path: os.removexattr(p, name, follow_symlinks=False),
        )
        told.append([answer(call) for call in calls])
    assert told[0] == told[1]


def test_attributes_follow_the_file_not_the_name(place: Path) -> None:
    touch(place / "a")
    os.setxattr(place / "a", "user.key", b"value")
    os.rename(place / "a", place / "b")
    os.link(place / "b", place / "c")
    assert os.getxattr(place / "c", "user.key") == b"value"
    with (place / "c").open("rb") as file:
        os.unlink(place / "b")
        os.unlink(place / "c")
        assert os.getxattr(file.fileno(), "user.key") == b"value"
        os.setxattr(file.fileno(), "user.key", b"still")
        assert os.getxattr(file.fileno(), "user.key") == b"still"
