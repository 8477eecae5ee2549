"""What each page says: its document, and that its template shows it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from support import page_scene, source
from support.page_client import Client, client_of
from support.shell import vfs
from vfs.api.views.version_comparison import count_changes
from vfs.api.views.viewed_repository import ViewedRepository
from vfs.repo.repository import Repository

VENDOR = source.ROOT / "vfs/web/static/vendor"


def test_a_comparison_says_the_summary_first(client: Client) -> None:
    found = client.get("/compare.json?a=v1&b=v2").json
    assert found["count"] == {"added": 120, "modified": 6, "removed": 1, "exact": True, "among": 132}
    assert (found["sums"]["old_files"], found["sums"]["new_files"]) == (13, 132)
    assert [name["name"] for name in found["names"]] == [
        "README.md",
        "evil.html",
        "images",
        "labels.csv",
        "more",
        "train.parquet",
    ]
    page = client.get("/compare?a=v1&b=v2").text
    assert page.index('aria-label="Summary"') < page.index("README.md")
    inner = client.get("/compare.json?a=v1&b=v2&path=images").json
    assert [name["name"] for name in inner["names"]] == ["cat_0.png", "cat_1.png", "cat_2.png"]


def test_a_count_that_has_no_time_goes_on_where_it_stopped(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene, tmp_path / "repo")
    with ViewedRepository.open(tmp_path / "repo") as viewed:
        old, new = (viewed.version(name).commit.root for name in ("v1", "v2"))
        found = [count_changes(viewed, old, new, 0.0) for _ in range(40)]
    assert not found[0]["exact"]
    assert [sum((each["added"], each["modified"], each["removed"])) for each in found] == sorted(
        sum((each["added"], each["modified"], each["removed"])) for each in found
    )
    assert found[-1] == {"added": 120, "modified": 6, "removed": 1, "exact": True, "among": 132}


def test_names_of_a_comparison_come_a_page_at_a_time(client: Client) -> None:
    first = client.get("/compare.json?a=v1&b=v2&path=more").json
    assert (len(first["names"]), first["next"]) == (100, "099.txt")
    second = client.get("/compare.json?a=v1&b=v2&path=more&after=099.txt").json
    assert [name["name"] for name in second["names"]] == [f"{number}.txt" for number in range(100, 120)]
    assert second["next"] is None


def test_a_table_is_compared_by_row_and_cell_with_the_key_that_is_chosen(client: Client) -> None:
    found = client.get("/compare.json?a=v1&b=v2&path=train.parquet").json["table"]
    assert (found["key"], found["added"], found["removed"], found["changed"]) == ("id", 0, 0, 10)
    assert found["changed_cells"] == {"label": 10}
    assert found["rows"][0]["changed"] == [False, True, False]
    whole = client.get("/compare.json?a=v1&b=v2&path=labels.csv&key=").json["table"]
    assert (whole["key"], whole["added"], whole["removed"]) == (None, 10, 10)
    page = client.get("/compare?a=v1&b=v2&path=labels.csv").text
    assert "<del>dog</del> <ins>cat</ins>" in page
    refused = client.get("/compare?a=v1&b=v2&path=labels.csv&key=none").text
    assert "is no column of both tables" in refused.replace("&#39;", "'")


def test_a_table_has_pages_filters_order_and_histograms(client: Client) -> None:
    found = client.get("/files.json?v=v1&path=train.parquet&first=900").json["table"]
    assert (found["rows_in_all"], len(found["rows"]), found["rows"][0][0]) == (1000, 100, "900")
    assert sum(bar["rows"] for bar in found["columns"][0]["histogram"]["bars"]) == 1000
    cats = client.get("/files.json?v=v1&path=train.parquet&f=label|=|cat&order=-id").json["table"]
    assert (cats["matching"], cats["rows"][0][0]) == (10, "903")
    some = client.get("/files.json?v=v1&path=labels.csv&where=score%20%3E%203.8%20AND%20label%3D%27dog%27").json[
        "table"
    ]
    assert some["matching"] == 25
    page = client.get("/files?v=v1&path=train.parquet&f=label|=|cat&f=id|<|500").text
    assert "Remove this filter" in page
    # Each bar leads to the rows that it counts.
    links = re.findall(r'href="(/files\?[^"]*f=[^"]*)"', page)
    assert links
    for link in links[:4]:
        client.get(link.replace("&amp;", "&"))
    assert client.get("/histogram?v=v1&path=train.parquet&name=score").text.count("<rect") > 10


def test_a_condition_may_speak_of_what_it_may_not_do(client: Client) -> None:
    for condition in ("label <> 'select'", "id > 1 -- select", "label <> e'\\'select' AND label <> 'range('"):
        found = client.get(f"/files.json?v=v1&path=train.parquet&where={quote(condition)}").json["table"]
        assert (found["problem"], len(found["rows"])) == ("", 100)


def test_columns_behind_the_last_one_are_no_fault(client: Client) -> None:
    assert "1,000" in client.get("/files?v=v1&path=train.parquet&column=99999").text


def test_all_versions_of_a_file_cost_its_own_changes(client: Client) -> None:
    found = client.get("/path.json?path=README.md").json
    assert [(step["version"], step["change"]) for step in found["steps"]] == [("v2", "modified"), ("v1", "added")]
    assert [step["version"] for step in client.get("/path.json?path=data.bin").json["steps"]] == ["v1"]
    gone = client.get("/path.json?path=evil.html").json["steps"]
    assert [step["change"] for step in gone] == ["removed", "added"]
    client.get("/path?path=nothing", 404)
    assert "what changed" in client.get("/path?path=README.md").text


def test_images_are_side_by_side_with_slider_and_difference(client: Client) -> None:
    page = client.get("/compare?a=v1&b=v2&path=images/cat_0.png").text
    assert "data-slider" in page
    links = [link.replace("&amp;", "&") for link in re.findall(r'src="(/image[^"]+)"', page)]
    drawn = [Image.open(io.BytesIO(client.get(link).body)) for link in links]
    assert {image.size for image in drawn} == {(120, 80)}
    assert drawn[-1].convert("RGB").getpixel((30, 30)) != (0, 0, 0)
    assert drawn[-1].convert("RGB").getpixel((100, 70)) == (0, 0, 0)


def test_thumbnails_are_kept_by_content_whatever_the_version(client: Client) -> None:
    first = client.get("/image?v=v1&path=images/cat_5.png&edge=160")
    again = client.get("/image?v=v2&path=images/cat_5.png&edge=160")
    changed = client.get("/image?v=v2&path=images/cat_0.png&edge=160")
    assert first.headers["etag"] == again.headers["etag"] != changed.headers["etag"]
    known = client.get("/image?v=v2&path=images/cat_5.png&edge=160", 304, {"if-none-match": first.headers["etag"]})
    assert known.body == b""


def test_the_history_has_lanes_and_a_search(client: Client) -> None:
    every = client.get("/history.json?all=1").json
    assert [version["message"] for version in every["versions"]] == ["on the other branch", page_scene.MESSAGE, "first"]
    assert [version["graph"]["lane"] for version in every["versions"]] == [0, 1, 0]
    found = client.get("/history.json?q=SECOND").json
    assert [version["version"] for version in found["versions"]] == ["v2"]
    assert client.get("/history.json?q=nothing-like-it").json["versions"] == []
    assert [v["version"] for v in client.get("/history.json?q=baseline").json["versions"]] == ["v1"]
    assert "Go to" in client.get("/?q=v1").text
    assert client.get("/history.json?branch=other").json["versions"][0]["message"] == "on the other branch"
    client.get("/?branch=none", 404)


def test_every_page_has_a_document_and_a_file_that_stands_alone(client: Client) -> None:
    for name, query in (
        ("history", ""),
        ("version", "?v=v2"),
        ("files", "?v=v2&path=images"),
        ("files", "?v=v2&path=images/cat_0.png"),
        ("files", "?v=v2&path=train.parquet"),
        ("files", "?v=v2&path=README.md"),
        ("files", "?v=v2&path=data.bin"),
        ("compare", "?a=v1&b=v2"),
        ("compare", "?a=v1&b=v2&path=images/cat_0.png"),
        ("compare", "?a=v1&b=v2&path=labels.csv"),
        ("compare", "?a=v1&b=v2&path=README.md"),
        ("compare", "?a=v1&b=v2&path=evil.html"),
        ("path", "?path=images/cat_0.png"),
    ):
        json.loads(client.get(f"/{name}.json{query}").body)
        shown = client.get(f"/{'' if name == 'history' else name}{query}").text
        assert "<h1>This cannot be shown" not in shown
        sent = client.get(f"/{name}.html{query}")
        assert sent.headers["content-disposition"].startswith("attachment")
        assert len(sent.body) < 2_000_000
        for forbidden in ("<script", "<link", "<form", ' src="/', ' href="/', "hx-get"):
            assert forbidden not in sent.text, (name, query, forbidden)
        assert "default-src 'none'" in sent.text
    pictures = client.get("/compare.html?a=v1&b=v2&path=images/cat_0.png").text
    assert pictures.count("data:image/png;base64,") == 3


def test_an_empty_repository_says_what_to_do(tmp_path: Path) -> None:
    vfs("init", tmp_path / "empty")
    with client_of(tmp_path / "empty") as client:
        assert "Nothing is committed yet" in client.get("/").text
        for path in ("/files", "/compare", "/version", "/path?path=a"):
            assert "Nothing is committed yet" in client.get(path, 404).text
        assert client.get("/files.json", 404).json["error"] == "unknown-version"


def test_a_hint_says_what_to_type_in_a_terminal_anywhere(client: Client, scene: Path) -> None:
    answer = client.get("/version?v=v99", 404)
    assert f"<code>vfs --repo {scene} log</code> lists them." in answer.text
    assert client.get("/version.json?v=v99", 404).json["hint"].endswith(f"`vfs --repo {scene} log` lists them.")


def test_a_damaged_repository_shows_what_can_be_read_and_names_the_damage(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(scene, path)
    with client_of(path) as client:
        for pack in (path / "packs").rglob("*"):
            if pack.is_file():
                pack.chmod(0o600)
                with pack.open("r+b") as file:
                    # In place: the server may have it open.
                    file.seek(64)
                    file.write(bytes(pack.stat().st_size - 64))
        answers = [client.get(f"/files?v=v1&path={name}", 500) for name in ("train.parquet", "labels.csv")]
        assert all("damaged or missing" in answer.text for answer in answers)
        assert client.get("/files.json?v=v1&path=labels.csv", 500).json["error"]


def test_a_page_reads_what_is_committed_while_it_is_open(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a").write_text("1")
    vfs("init", tmp_path / "repo")
    with client_of(tmp_path / "repo") as client:
        vfs("import", tmp_path / "data", "-R", tmp_path / "repo", "-m", "came later")
        assert "came later" in client.get("/").text
    with Repository.open(tmp_path / "repo") as repo:
        assert repo.head() is not None


def test_what_is_packed_is_what_the_manifest_says() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    files = {name: digest for package in manifest for name, digest in package["files"].items()}
    assert set(files) == {path.name for path in VENDOR.iterdir()} - {"manifest.json"}
    for name, digest in files.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    for package in manifest:
        assert any(name.endswith(".LICENSE") for name in package["files"])
