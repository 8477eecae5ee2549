"""Files fetched from addresses of fsspec: complete, nothing outside of the directory, no secrets kept."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]
import pytest

from support.commands import commands_on
from support.object_server import object_server
from vfs.backend.locations import Location
from vfs.backend.object_storage import load_client, open_store
from vfs.errors import InvalidInput, NotFound, Unsupported
from vfs.python.address_download import SOURCE, NotFetched, copy_files, fetch, pinned, without_secrets


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
        fetch("gcs://bucket/key", tmp_path / "copy", ignore)
    assert "gcsfs" in str(caught.value.hint)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Location:
    server = object_server()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    location = server.location()
    store = open_store(
        "s3", urlsplit(location.url).netloc, {"endpoint": server.endpoint, "default_region": "us-east-1"}
    )
    prefix = urlsplit(location.url).path.strip("/")
    data = {"a.txt": b"1", "d e/ü#?.txt": b"22" * 5_000_000, "x/@y": b"", "dir/": b"", "dir/z": b"z"}
    for key, value in data.items():
        load_client()[0].put(store, f"{prefix}/{key}", value)
    load_client()[0].put(store, f"{prefix}-other/key", b"of another prefix")
    return location


def test_a_bucket_of_a_real_server_is_imported_once(
    bucket: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = commands_on(tmp_path / "repo", capsys, monkeypatch)
    run("import", "--from", bucket.url, "-m", "from the bucket")
    assert run("ls", "v1").split() == ["a.txt", "d", "e/", "dir/", "x/"]
    assert run("cat", "v1", "dir/z") == "z"
    assert len(run("cat", "v1", "d e/ü#?.txt")) == 10_000_000
    assert f"vfs.source  {bucket.url}" in run("show", "v1")
    # Nothing has changed there, and files have the times of the objects.
    run("import", "--from", bucket.url, "-m", "again", status=1)
    run("import", "--from", f"{bucket.url}/a.txt", "-m", "one object")
    assert run("ls", "v2").split() == ["a.txt"]


def test_what_a_service_refuses_is_said_in_a_line(
    bucket: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound):
        fetch(f"{bucket.url}/nothing", tmp_path / "copy", ignore, endpoint=bucket.endpoint)
    with pytest.raises(NotFetched) as caught:
        fetch("s3://no-such-bucket/a", tmp_path / "copy", ignore, endpoint=bucket.endpoint)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 700
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(NotFetched):
        fetch(bucket.url, tmp_path / "copy", ignore, endpoint=bucket.endpoint)


class _Repository:
    """A repository of a hub, of which the branch `main` is at a commit."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.protocol = "hf"
        self._api = self
        self._files = files

    def repo_info(self, repo_id: str, *, repo_type: str, revision: str) -> SimpleNamespace:
        assert (repo_id, repo_type, revision) == ("ann/data", "dataset", "main")
        return SimpleNamespace(sha="0123abcd")

    def resolve_path(self, path: str) -> _Resolved:
        assert path == "datasets/ann/data/train"
        return _Resolved("dataset", "ann/data", "main", "train")

    def find(self, path: str, detail: bool) -> dict[str, dict[str, str]]:
        assert (path, detail) == ("datasets/ann/data@0123abcd/train", True)
        return {f"{path}/{name}": {"type": "file"} for name in self._files}

    def open(self, name: str, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._files[name.rpartition("/")[2]])


@dataclass
class _Resolved:
    """A path of the hub, with the names that huggingface_hub 2.4 gives its parts."""

    repo_type: str
    repo_id: str
    revision: str
    path_in_repo: str
    _raw_revision: str | None = None

    def unresolve(self) -> str:
        return f"{self.repo_type}s/{self.repo_id}@{self._raw_revision}/{self.path_in_repo}"


def test_a_branch_of_a_hub_is_pinned_to_its_commit_which_is_kept(tmp_path: Path) -> None:
    hub = _Repository({"a.csv": b"1"})
    path, commit = pinned(hub, "datasets/ann/data/train")
    assert commit == "0123abcd"
    copy_files(hub, path, tmp_path, "hf://datasets/ann/data/train", ignore)
    assert found_in(tmp_path) == {"a.csv": b"1"}


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
