"""Who is answered, and what the answers forbid the browser."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from support.hostile_tables import wide_parquet
from support.page_client import TOKEN, Client, client_of, request
from support.page_scene import HTML, SVG
from support.shell import vfs


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "localhost:9000", "LOCALHOST", "[::1]:1"])
def test_names_of_this_machine_are_answered_with_any_port(client: Client, host: str) -> None:
    assert client.get("/", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "", "169.254.1.1:8765",
     "localhost@evil.example", "0.0.0.0:8765", "[::1]evil.example:80", "localhost.", "127.0.0.1.:8765", "2130706433",
     "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "localhost:evil.example", "::1"],
)  # fmt: skip
def test_other_names_are_refused_with_cookie_and_token(client: Client, host: str) -> None:
    """A page of another site whose name resolves to this machine (DNS rebinding) sends its own name."""
    client.get("/", 421, {"host": host})
    assert request(client.app, f"/?token={TOKEN}", {"host": host}).status == 421


@pytest.mark.parametrize(
    "path",
    ["/", "/files?v=v1", "/image?v=v1&path=images/cat_0.png&edge=160", "/static/page.css", "/history.json", "/nothing"],
)
def test_nothing_is_answered_without_the_token(client: Client, path: str) -> None:
    assert request(client.app, path).status == 401
    assert request(client.app, path, {"cookie": f"{client.cookie}x"}).status == 401
    assert request(client.app, path, {"cookie": "a=b; ;;=; \"'"}).status == 401
    wrong = f"{path}{'&' if '?' in path else '?'}token=wrong"
    assert request(client.app, wrong).status == 401


def test_the_token_is_left_once_and_becomes_a_cookie_that_no_script_and_no_other_site_gets(client: Client) -> None:
    answer = request(client.app, f"/compare?a=v1&token={TOKEN}&b=v2")
    assert answer.status == 303
    assert answer.headers["location"] == "/compare?a=v1&b=v2"
    assert answer.headers["set-cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert TOKEN not in answer.headers["set-cookie"]
    assert answer.headers["cache-control"] == "no-store"


def test_the_way_in_leads_to_no_other_host(client: Client) -> None:
    answer = request(client.app, f"//evil.example/?token={TOKEN}")
    assert answer.headers["location"].startswith("/evil.example")
    answer = request(client.app, f"/\\evil.example/?token={TOKEN}")
    assert answer.headers["location"].startswith("/evil.example")


def test_only_reading_is_answered_and_no_other_site(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert request(client.app, "/", {"cookie": client.cookie}, method).status == 405
    client.get("/", 403, {"sec-fetch-site": "cross-site"})
    link = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    client.get("/", 403, {"sec-fetch-site": "cross-site", **link})
    client.get("/", headers={"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"})
    # A program of another user may serve pages on another port.
    client.get("/", headers={"sec-fetch-site": "same-site", **link})
    client.get("/", 403, {"sec-fetch-site": "same-site", **link, "sec-fetch-dest": "iframe"})
    client.get("/", 403, {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"})
    assert "access-control-allow-origin" not in client.get("/", headers={"origin": "null"}).headers


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/history.json", 200), ("/nothing", 404), ("/files?v=v99", 404), ("/static/page.css", 200)],
)
def test_every_answer_has_the_policy(client: Client, path: str, status: int) -> None:
    headers = client.get(path, status).headers
    policy = headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
    )
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"


def test_contents_of_files_are_never_a_document_of_this_origin(client: Client) -> None:
    for name, data in (("evil.svg", SVG), ("evil.html", HTML)):
        sent = client.get(f"/download?v=v1&path={name}")
        assert sent.body == data
        assert sent.headers["content-type"] == "application/octet-stream"
        assert sent.headers["content-disposition"].startswith("attachment")
        shown = client.get(f"/files?v=v1&path={name}").text
        assert "<script>document" not in shown
        image = client.get(f"/image?v=v1&path={name}&edge=160")
        assert image.headers["content-type"] == "image/png"
        assert image.body.startswith(b"\x89PNG")
        assert b"script" not in image.body


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "images/../../scene/vfs.json",
        "%2e%2e/%2e%2e/etc/passwd",
        "a%00b",
        "..",
        "a/" * 3000,
    ],
)
def test_paths_lead_through_the_tree_alone(client: Client, path: str) -> None:
    for page in ("files", "download", "path", "compare"):
        answer = request(client.app, f"/{page}?v=v1&a=v1&b=v2&path={path}", {"cookie": client.cookie})
        assert answer.status in (400, 404), page
        assert "root:" not in answer.text
    assert request(client.app, f"/static/{path}", {"cookie": client.cookie}).status == 404


@pytest.mark.parametrize(
    "condition",
    [
        "exists (SELECT 1 FROM read_text('/etc/passwd'))",
        "id = 1) UNION SELECT content, 1, 1 FROM read_text('/etc/passwd') --",
        "true); COPY rows TO '/tmp/page-out.csv'; SELECT (1",
        "repeat('a', 3000000000) = 'b'",
        "id > (select max(a.i * b.i) from range(1000000) a(i), range(1000000) b(i))",
        "len(RANGE (9000000000)) > /* '*/ 1",
        "len(generate_series/**/(1, 9000000000)) > 1",
        "exists (FROM read_csv('/etc/passwd'))",
        "(TABLE rows) IS NULL",
        "true) LIMIT 1; ATTACH '/tmp/page.db'; SELECT (1",
        "true) GROUP BY (id",
        "getenv('HOME') = 'x'",
        "current_setting('temp_directory') = 'x'",
        "list_reduce([1, 2], (x, y) -> x || x) = 'a'",
        "format('{:>2000000000}', 'a') = 'b'",
        "replace(replace('aaaaaaaa', 'a', 'aaaaaaaaaaaa'), 'a', 'aaaaaaaaaaaa') = 'b'",
        "bitstring('1', 2000000000) = '1'",
        "id = ?",
        "NOT " * 300 + "true",
        "NOT " * 900 + "true",
        "NOT " * 5000 + "true",
        f"true) GROUP BY ({'NOT ' * 300}true",
        "id = 1) OR (id = 2",
        "label LIKE '%a%a%a_'",
        "(" * 1900 + "true" + ")" * 1900,
        "(" * 3000 + "true" + ")" * 3000,
    ],
)
def test_sql_that_reads_outside_is_refused_in_words(client: Client, condition: str) -> None:
    found = client.get(f"/files.json?v=v1&path=train.parquet&where={quote(condition)}").json
    assert found["table"]["problem"]
    assert found["table"]["rows"] == []
    page = client.get(f"/files?v=v1&path=train.parquet&where={quote(condition)}").text
    assert "Not shown" in page
    assert "root:" not in page


def test_hostile_names_and_messages_are_text(client: Client) -> None:
    for path in (
        "/",
        "/files?v=v2",
        "/compare?a=v1&b=v2",
        "/version?v=v2",
        "/history.html",
        "/?q=%3Cscript%3Ealert(1)",
    ):
        page = client.get(path).text
        assert "<img src=x" not in page
        assert "<script>document" not in page
        assert "<script>alert" not in page


def test_names_that_are_no_text_or_turn_it_around_are_shown_as_what_they_are(tmp_path: Path) -> None:
    source = os.fsencode(tmp_path / "source")
    os.mkdir(source)
    for name in (b"\xff.png", b"\xed\xa0\x80.csv", b"two\nlines.txt", "\u202egpj.exe".encode()):
        with open(os.path.join(source, name), "wb") as file:
            file.write(b"id,v\n1,2\n")
    vfs("init", tmp_path / "odd")
    vfs("import", os.fsdecode(source), "-R", tmp_path / "odd", "-m", "first")
    with client_of(tmp_path / "odd") as client:
        for path in ("?v=v1", "?v=v1&path=%ED%A0%80.csv", "?v=v1&path=%FF.png"):
            for page in ("/files", "/files.html", "/files.json"):
                client.get(page + path)
        client.get("/path.html?path=%FF.png")
        shown = client.get("/files?v=v1").text
    assert "two\\nlines.txt</a>" in shown
    assert "\\u202egpj.exe</a>" in shown
    assert "\u202e" not in shown


def test_more_parameters_than_any_page_has_are_refused(client: Client) -> None:
    client.get("/files?" + "&".join(f"f=a{number}" for number in range(500)), 400)
    client.get("/files?v=v1&path=train.parquet&first=-1", 400)
    client.get("/image?v=v1&path=images/cat_0.png&edge=100000", 400)
    client.get("/?cursor=zz", 400)


def _png(width: int, height: int) -> bytes:
    """Returns an image that says more of itself than it has."""
    parts = (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(1000)),
        b"IEND",
    )
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A page of files that were made to take memory and time."""
    top = tmp_path_factory.mktemp("hostile")
    source = top / "source"
    source.mkdir()
    (source / "bomb.png").write_bytes(_png(100_000, 100_000))
    (source / "bomb.jpg").write_bytes(b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01\x01\x11\x00\xff\xd9")
    (source / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    (source / "deep.json").write_bytes(b"[" * 100_000 + b"]" * 100_000)
    (source / "deep.jsonl").write_bytes(b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n")
    (source / "keys.jsonl").write_bytes(b"".join(b'{"k%d":1}\n' % number for number in range(12_000)))
    (source / "one.jsonl").write_bytes(b"{" + b",".join(b'"k%d":1' % number for number in range(150_000)) + b"}\n")
    (source / "columns.csv").write_bytes(b",".join(b"c%d" % number for number in range(10_001)) + b"\n")
    (source / "columns.tsv").write_bytes(b'"a\nb"' + b"\t" * 10_000 + b"\n")
    (source / "columns.parquet").write_bytes(wide_parquet(1_000_000))
    (source / "field.csv").write_bytes(b'a,b\n1,"' + bytes(40 << 20).replace(b"\0", b"x") + b'"\n')
    vfs("init", top / "repo")
    vfs("import", source, "-R", top / "repo", "-m", "first")
    for path in source.iterdir():
        with path.open("ab") as file:
            file.write(b"\n")
    vfs("import", source, "-R", top / "repo", "-m", "second")
    with client_of(top / "repo") as client:
        yield client


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bomb.png", "too many pixels"),
        ("bomb.jpg", "too many pixels"),
        ("program.png", "it is no image that can be read"),
        ("deep.jsonl", "recursion depth"),
        ("keys.jsonl", "more than 10,000 keys"),
        ("columns.csv", "more than 10,000 columns"),
        ("columns.tsv", "more than 10,000 columns"),
        ("columns.parquet", "more than 10,000 columns"),
        ("one.jsonl", "more than 10,000 keys"),
        ("field.csv", "a line is longer than 16 MB"),
    ],
)
def test_files_that_were_made_to_take_memory_and_time_are_refused_in_words(
    hostile: Client, name: str, words: str
) -> None:
    page = hostile.get(f"/files?v=v1&path={name}").text
    assert "Not shown" in page
    assert words in page
    hostile.get(f"/compare?a=v1&b=v2&path={name}")
    assert hostile.get(f"/image?v=v1&path={name}&edge=160").body.startswith(b"\x89PNG")


def test_a_file_that_calls_itself_an_image_starts_no_program(
    hostile: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The imaging library draws PostScript by Ghostscript, whatever the file's name says."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    hostile.get("/image?v=v1&path=program.png&edge=160")
    hostile.get("/image?a=v1&b=v2&path=program.png")
    hostile.get("/compare?a=v1&b=v2&path=program.png")
    assert not (tmp_path / "started").exists()


def test_nested_documents_are_text(hostile: Client) -> None:
    assert "[[[[" in hostile.get("/files?v=v1&path=deep.json").text
    assert "nested too deep" in hostile.get("/compare?a=v1&b=v2&path=deep.json").text


def test_a_form_leads_back_to_a_path_that_is_no_text(tmp_path: Path) -> None:
    name = b"\xff\nodd.csv"
    source = os.fsencode(tmp_path / "source")
    os.mkdir(source)
    vfs("init", tmp_path / "odd")
    for value in (b"2", b"3"):
        with open(os.path.join(source, name), "wb") as file:
            file.write(b"id,v\n1," + value + b"\n")
        vfs("import", os.fsdecode(source), "-R", tmp_path / "odd", "-m", "one")
    with client_of(tmp_path / "odd") as client:
        for page in (f"/files?v=v1&path={quote(name)}", f"/compare?a=v1&b=v2&path={quote(name)}"):
            assert f'<input type="hidden" name="path_hex" value="{name.hex()}">' in client.get(page).text
        found = client.get(f"/files.json?v=v1&path_hex={name.hex()}&where=v=2").json
        assert found["table"]["rows"] == [["1", "2"]]
        client.get("/files?v=v1&path_hex=zz", 400)
        client.get(f"/files?v=v1&path_hex={b'../../etc/passwd'.hex()}", 400)
