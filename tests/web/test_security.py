"""Who is answered, and what the answers forbid the browser."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from support.page_client import TOKEN, Client, client_of, request
from support.page_scene import HTML, SVG
from support.shell import vfs


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "localhost:9000", "LOCALHOST", "[::1]:1"])
def test_names_of_this_machine_are_answered_with_any_port(client: Client, host: str) -> None:
    assert client.get("/", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "", "169.254.1.1:8765",
     "localhost@evil.example", "0.0.0.0:8765"],
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


def test_only_reading_is_answered_and_no_other_site(client: Client) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert request(client.app, "/", {"cookie": client.cookie}, method).status == 405
    client.get("/", 403, {"sec-fetch-site": "cross-site"})
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
