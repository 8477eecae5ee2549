"""Changes as HTML and Markdown: complete, bounded, and with nothing of the names in them that marks up."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from vfs.api.change_reports import FileDetail, Report, html_report, markdown_report, markdown_text
from vfs.api.documents import ChangeDocument, SideDocument, VersionDocument
from vfs.api.html import PAGE_BYTES_MAX, page

HOSTILE = ["<script>alert(1)</script>", "a|b\nc", "`x`", "[a](javascript:b)", "\x1b[2J", "\udcff", "@all", "&amp;"]


def version(name: str, message: str = "message") -> VersionDocument:
    return {
        "version": name,
        "id": "ab" * 32,
        "parents": [],
        "time": "2026-11-01T12:00:00.000000Z",
        "author": "a@b",
        "message": message,
        "meta": {},
        "files": 1,
        "size": 2,
        "tags": [],
    }


def side(size: int) -> SideDocument:
    return {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": size, "mtime": "", "mtime_ns": 0}


def modified(path: str) -> ChangeDocument:
    return {
        "path": path,
        "change": "modified",
        "type": "file",
        "what": ["content"],
        "old": side(1000),
        "new": side(2000),
    }


class Tags(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element; nothing may be loaded or run."""
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        """Notes text."""
        self.text += data


def report(paths: list[str], details: list[FileDetail] | None = None) -> Report:
    return Report(version("v1"), version("v2"), map(modified, paths), details or [])


def test_a_report_has_sums_paths_and_details() -> None:
    details = [FileDetail("a", ["1 line: 1 added", "+ x", "- y"])]
    for shown in (html_report(report(["a", "b"], details)), markdown_report(report(["a", "b"], details))):
        assert "2 modified" in shown
        assert "+ x" in shown
        assert "v1 → v2" in shown


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_and_messages_mark_nothing_up(hostile: str) -> None:
    made = Report(
        version("v1"), version("v2", hostile), [modified(hostile)], [FileDetail(hostile, ["+ " + hostile, "``` x"])]
    )
    seen = Tags()
    seen.feed(page(hostile, html_report(made)))
    allowed = {"html", "head", "meta", "title", "style", "body", "div", "h3", "h4", "p", "code", "pre", "span"}
    assert seen.tags <= allowed | {"table", "tbody", "tr", "td"}
    markdown = markdown_report(made)
    assert not re.search(r"(?<!\\)<", markdown.partition("<details>")[0])
    (row,) = re.findall(r"^\| M \|.*$", markdown, re.MULTILINE)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert "\x1b" not in markdown
    # The fence is longer than what is in it.
    assert "\n````diff\n" in markdown
    markdown.encode("utf-8")


def test_a_million_changes_fit_and_are_counted() -> None:
    paths = [f"directory/with/a/name/{number:07}" for number in range(100_000)]
    html = page("x", html_report(report(paths)))
    assert len(html.encode()) < 2_000_000
    assert "100,000 modified" in html
    shown = html.count("<tr>")
    assert f"{100_000 - shown:,} changes more" in html
    markdown = markdown_report(report(paths))
    assert len(markdown.encode()) < 65_536
    assert "100,000 modified" in markdown


def test_details_leave_room_for_the_paths() -> None:
    details = [FileDetail(str(number), ["+ " + "x" * 10_000]) for number in range(500)]
    html = html_report(report(["only-path"], details))
    assert len(html.encode()) < PAGE_BYTES_MAX
    assert "only-path" in html
    assert "more changed inside" in html


def test_nothing_differs() -> None:
    assert "No differences." in html_report(report([]))
    assert "No differences." in markdown_report(report([]))
    assert "|" not in markdown_report(report([]))


def test_markdown_shows_text_as_it_is() -> None:
    assert markdown_text("a_b*c") == r"a\_b\*c"
    assert markdown_text("plain 1.0") == "plain 1.0"
