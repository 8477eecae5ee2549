"""Addresses of backends as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vfs.backend.local import LocalBackend
from vfs.backend.locations import Location, open_location, parse_location
from vfs.backend.object_storage import ObjectStorageBackend
from vfs.backend.protocol import ObjectBackend
from vfs.errors import InvalidInput, NotFound, ReadOnly


def test_a_path_is_the_address_of_a_directory(tmp_path: Path) -> None:
    location = parse_location("a b%c", base=tmp_path)
    assert location == parse_location(f"file://{tmp_path}/a%20b%25c")
    with pytest.raises(NotFound):
        open_location(location)
    backend = open_location(location, create=True)
    assert isinstance(backend, LocalBackend)
    assert backend.root == tmp_path / "a b%c"


@pytest.mark.parametrize(
    "text",
    ["", "ftp://host/x", "s3://", "s3:///key", "file://host/x", "://", "s3://key:secret@bucket/x",
     "https://user@host/x", "https://host/x?sig=secret", "s3://bucket/x#y"],
)  # fmt: skip
def test_what_is_no_address_or_has_credentials_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_location(text)
    assert "secret" not in f"{refused.value.message}{refused.value.hint}"


def test_an_endpoint_is_an_http_address_of_a_service() -> None:
    assert parse_location("s3://b/p/", endpoint="http://h:1/") == Location("s3://b/p", "http://h:1")
    for url, endpoint in (("s3://b/p", "h:1"), ("/directory", "http://h")):
        with pytest.raises(InvalidInput):
            parse_location(url, endpoint=endpoint)


@pytest.mark.parametrize("url", ["s3://b/p", "gs://b/p", "https://host/p", "http://host/p"])
def test_every_service_is_opened_without_a_request(url: str) -> None:
    assert isinstance(open_location(parse_location(url)), ObjectStorageBackend)


def test_an_account_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="az://c/p"):
        open_location(parse_location("az://c/p"))
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert isinstance(open_location(parse_location("az://c/p")), ObjectStorageBackend)


def test_a_static_address_takes_nothing() -> None:
    backend: ObjectBackend = open_location(parse_location("https://127.0.0.1:1/p"))
    with pytest.raises(ReadOnly):
        backend.put("k", b"x")
    with pytest.raises(ConnectionError):
        backend.read("k")
