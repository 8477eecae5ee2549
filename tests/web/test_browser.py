"""The pages in a real browser: nothing on the console, no violation of the policy, by keyboard, in a narrow window."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
NAME = "localhost"

# What a page fetches by itself has come: its images, its count, and the parts of it that are in the window.
_IS_WHOLE = """() => document.readyState === "complete"
    && !document.querySelector("[hx-trigger^=load], .htmx-request")
    && [...document.querySelectorAll("[hx-trigger^=intersect]")].every(part => {
        const place = part.getBoundingClientRect();
        return place.top >= innerHeight || place.left >= innerWidth || place.bottom <= 0 || place.right <= 0;
    })
    && [...document.images].every(image => image.complete)"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests: to start it is what costs."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()


@pytest.fixture(scope="session")
def url(scene: Path) -> Iterator[str]:
    """The address that the command prints; the server is ended by its parent's end."""
    with subprocess.Popen(
        [sys.executable, "-m", "vfs", "ui", "-R", str(scene), "--json"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"]
        server.terminate()
        assert server.wait(20) == 0


class Visit:
    """A window, and what its console said."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.base = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        self.page.goto(url)

    def _hear(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")

    def open(self, path: str) -> Page:
        """Goes to a page of the server."""
        self.page.goto(self.base + path)
        return self.page


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    """A window that was let in; at the end its console has to be empty."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    found = Visit(context, url)
    yield found
    context.close()
    assert found.said == []


def test_the_token_leaves_the_address_and_the_cookie_is_hidden_from_scripts(visit: Visit) -> None:
    expect(visit.page.locator("#versions .row")).to_have_count(2)
    assert "token" not in visit.page.url
    assert visit.page.evaluate("document.cookie") == ""


def test_every_page_is_shown_without_a_word_on_the_console(visit: Visit) -> None:
    for path in (
        "/?all=1", "/version?v=v2", "/files?v=v2", "/files?v=v1&path=evil.svg", "/files?v=v1&path=evil.html",
        "/files?v=v2&path=images", "/files?v=v2&path=train.parquet", "/files?v=v2&path=images/cat_0.png",
        "/compare?a=v1&b=v2", "/compare?a=v1&b=v2&path=images", "/compare?a=v1&b=v2&path=README.md",
        "/compare?a=v1&b=v2&path=labels.csv", "/path?path=README.md", "/path?path=images/cat_0.png",
    ):  # fmt: skip
        page = visit.open(path)
        expect(page.locator("main")).to_be_visible()
        assert page.title() != "owned"
        page.wait_for_function(_IS_WHOLE)
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_a_narrow_window_in_light_and_dark(browser: Browser, url: str, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 360, "height": 700}, color_scheme="dark" if scheme == "dark" else "light"
    )
    visit = Visit(context, url)
    grounds = set()
    for path in ("/", "/compare?a=v1&b=v2", "/files?v=v2", "/files?v=v2&path=train.parquet", "/version?v=v2",
                 "/compare?a=v1&b=v2&path=images/cat_0.png", "/compare?a=v1&b=v2&path=labels.csv"):  # fmt: skip
        page = visit.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    context.close()
    assert visit.said == []
    assert grounds == ({"rgb(22, 24, 28)"} if scheme == "dark" else {"rgb(252, 252, 250)"})


def test_the_history_is_searched_while_words_are_typed(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("/")
    page.keyboard.type("first")
    expect(page.locator("#versions .row")).to_have_count(1)
    expect(page.locator("#versions .message")).to_have_text("first")
    assert "q=first" in page.url


def test_keys_go_through_rows_and_open_them(visit: Visit) -> None:
    page = visit.open("/files?v=v2")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("a[data-row]").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".crumbs strong")).to_be_visible()
    page = visit.open("/compare?a=v1&b=v2&path=more")
    page.keyboard.press("n")
    expect(page.locator(".changes tbody tr")).to_have_count(20)


def test_two_versions_are_picked_and_compared(visit: Visit) -> None:
    page = visit.page
    page.locator('input[name="b"]').first.check()
    page.locator('input[name="a"]').last.check()
    page.get_by_role("button", name="Compare the two picked").click()
    expect(page.locator("#count")).to_contain_text("+120")
    page.get_by_role("link", name="labels.csv").click()
    expect(page.locator("tr.changed")).to_have_count(10)
    page.get_by_label("Rows are followed by").select_option("")
    expect(page.locator("tr.added")).to_have_count(10)


def test_a_bar_filters_the_table(visit: Visit) -> None:
    page = visit.open("/files?v=v2&path=train.parquet")
    page.locator("th", has_text="label").locator(".values a", has_text="cat").click()
    expect(page.locator(".chip")).to_contain_text("label = cat")
    expect(page.locator("table.data tbody tr")).to_have_count(20)
    page.locator(".chip").click()
    expect(page.locator("table.data tbody tr")).to_have_count(100)


def test_the_slider_uncovers_the_new_image(visit: Visit) -> None:
    page = visit.open("/compare?a=v1&b=v2&path=images/cat_0.png")
    slider = page.get_by_label("How much of the new image is shown")
    slider.fill("10")
    over = page.locator(".slider .over")
    assert over.evaluate("image => getComputedStyle(image).clipPath") == "inset(0px 0px 0px 10%)"


def test_a_saved_page_opens_without_a_server(visit: Visit, browser: Browser, tmp_path: Path) -> None:
    page = visit.open("/compare?a=v1&b=v2&path=images/cat_0.png")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Save as one file").click()
    saved = tmp_path / "page.html"
    downloading.value.save_as(saved)
    context = browser.new_context(offline=True)
    alone = context.new_page()
    said: list[str] = []
    alone.on("console", lambda message: said.append(message.text))
    alone.goto(saved.as_uri())
    expect(alone.locator("img")).to_have_count(3)
    assert alone.evaluate("[...document.images].every(image => image.naturalWidth)")
    context.close()
    assert said == []


def _pump(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def _take(listening: socket.socket, port: int) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(64) as threads:
        pairs = []
        while True:
            try:
                near = stack.enter_context(listening.accept()[0])
            except OSError:
                break
            far = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            pairs += [near, far]
            threads.submit(_pump, near, far)
            threads.submit(_pump, far, near)
        for each in pairs:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def forwarded(port: int) -> Iterator[int]:
    """Listens on another port and hands connections on, as `ssh -L` does; yields that port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taking = threading.Thread(target=_take, args=(listening, port))
        taking.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            taking.join()


def test_a_forwarded_port_works(browser: Browser, url: str) -> None:
    parts = urlsplit(url)
    assert parts.port is not None
    with forwarded(parts.port) as port:
        context = browser.new_context()
        visit = Visit(context, f"http://{NAME}:{port}/?{parts.query}")
        expect(visit.page.locator("#versions .row")).to_have_count(2)
        page = visit.open("/files?v=v2&path=images")
        page.wait_for_function(_IS_WHOLE)
        assert page.evaluate("[...document.images].every(image => image.naturalWidth)")
        context.close()
    assert visit.said == []
