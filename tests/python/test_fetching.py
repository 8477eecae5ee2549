"""Files fetched from addresses of fsspec: complete, nothing outside of the directory, no secrets kept."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest

from support.commands import commands_on
from vfs.errors import InvalidInput, NotFound, Unsupported
from vfs.python.fetching import SOURCE, NotFetched, copy_files, fetch, without_secrets


def ignore(_files: int, _size: int) -> None:
    """Is progress without a display."""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    directory = tmp_path / "there"
    (directory / "d e").mkdir(parents=True)
    (directory / "a").write_bytes(b"1")
    (directory / "d e" / "ü").write_bytes(b"22")
    return directory


def found_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def packed(tmp_path: Path, names: list[str]) -> str:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return f"zip://::file://{tmp_path / 'x.zip'}"


def test_a_directory_comes_with_its_times(there: Path, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    fetched = fetch(f"file://{there}", tmp_path / "copy", lambda files, size: counted.append((files, size)))
    assert found_in(tmp_path / "copy") == {"a": b"1", "d e/ü": b"22"}
    assert (fetched.files, fetched.size_bytes, counted[-1]) == (2, 3, (2, 3))
    assert fetched.metadata == {SOURCE: f"file://{there}"}
    assert (tmp_path / "copy" / "a").stat().st_mtime == pytest.approx((there / "a").stat().st_mtime)


def test_a_file_an_archive_and_memory(there: Path, tmp_path: Path) -> None:
    fetch(f"file://{there}/a", tmp_path / "one", ignore)
    assert found_in(tmp_path / "one") == {"a": b"1"}
    fetch(packed(tmp_path, ["x/y", "z"]), tmp_path / "zip", ignore)
    assert found_in(tmp_path / "zip") == {"x/y": b"x/y", "z": b"z"}
    fsspec.filesystem("memory").pipe_file("/bucket/k/v", b"v")
    fetch("memory://bucket", tmp_path / "memory", ignore)
    assert found_in(tmp_path / "memory") == {"k/v": b"v"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    address = packed(tmp_path, [name])
    with pytest.raises((InvalidInput, NotFound)):
        fetch(address, tmp_path / "copy", ignore)
    assert not (tmp_path / "evil").exists()


def test_what_is_not_there_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        fetch(f"file://{tmp_path}/nothing", tmp_path / "copy", ignore)
    with pytest.raises(InvalidInput):
        fetch("just/a/path", tmp_path / "copy", ignore)
    with pytest.raises(InvalidInput):
        fetch("gopher://x", tmp_path / "copy", ignore)
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(NotFetched):
        fetch(f"zip://::file://{tmp_path}/x.zip", tmp_path / "copy", ignore)


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as caught:
        fetch("s3://bucket/key", tmp_path / "copy", ignore)
    assert "s3fs" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        ("smb://u:secret@host/a?sig=secret", "smb://u@host/a"),
        ("git://org:repo@main/path", "git://org@main/path"),
        ("zip://x::abfs://h/a.zip?token=secret", "zip://x::abfs://h/a.zip"),
        ("vfs:///r@v1/a", "vfs:///r@v1/a"),
    ],
)
def test_secrets_are_not_kept(address: str, kept: str) -> None:
    assert without_secrets(address) == kept


def test_a_version_says_where_it_came_from(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands_on(tmp_path / "repo", capsys, monkeypatch)
    run("import", "--from", f"file://{there}", "-m", "fetched")
    assert f"vfs.source  file://{there}" in run("show", "v1")
    assert run("cat", "v1", "d e/ü") == "22"
    run("import", "--from", f"file://{there}", str(there), "-m", "both", status=2)
    run("import", "-m", "neither", status=2)
    run("import", "--from", f"file://{there}", "-m", "again", status=1)


class _Web:
    """As the filesystem of HTTP: names are encoded, and nothing is known of a file alone."""

    protocol = ("http", "https")

    def __init__(self, *names: str) -> None:
        self._names = names

    def find(self, path: str, detail: bool) -> object:
        assert detail
        if path in self._names:
            return {path: {}}
        return {name: {"type": "file", "size": 1} for name in self._names if name.startswith(path)}

    def open(self, name: str, _mode: str) -> io.BytesIO:
        assert name in self._names
        return io.BytesIO(b"1")


@pytest.mark.parametrize(
    ("top", "below", "names"),
    [
        ("http://h/d/", ["http://h/d/a%20b%3F.csv", "http://h/d/e/%C3%A9"], ["a b?.csv", "e/é"]),
        ("http://h/d/%C3%A9?token=secret", ["http://h/d/%C3%A9?token=secret"], ["é"]),
    ],
)
def test_names_on_the_web_are_decoded_and_their_queries_left_out(
    tmp_path: Path, top: str, below: list[str], names: list[str]
) -> None:
    assert copy_files(_Web(*below), top, tmp_path, top, ignore) == (len(names), len(names))
    assert sorted(found_in(tmp_path)) == names


def test_a_name_on_the_web_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    top = "http://h/d/"
    with pytest.raises(InvalidInput):
        copy_files(_Web(f"{top}%2E%2E%2Fevil"), top, tmp_path / "copy", top, ignore)
