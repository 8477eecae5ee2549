"""The page's application, asked without a socket: requests as a server hands them on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from vfs.api.views.viewed_repository import ViewedRepository
from vfs.web.application import application
from vfs.web.security import App

TOKEN = "token-of-a-test"


class Answer(NamedTuple):
    """What was answered; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request(app: App, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    """Asks once."""
    where, _, query = path.partition("?")
    fields = {"host": "127.0.0.1:8765", **(headers or {})}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(where),
        "raw_path": where.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }
    sent: list[MutableMapping[str, Any]] = []

    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            # The caller stays until it has the answer.
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def ask() -> None:
        await app(scope, receive, send)

    # In a thread of its own: the caller's may run a loop already, that of a browser say.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(ask())).result()
    start = sent[0]
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in sent[1:]),
    )


class Client:
    """A caller that came with the token and has the cookie."""

    def __init__(self, app: App) -> None:
        self.app = app
        let_in = request(app, f"/?token={TOKEN}")
        self.cookie = let_in.headers["set-cookie"].partition(";")[0]

    def get(self, path: str, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        """Asks for a path and checks the status of the answer."""
        answer = request(self.app, path, {"cookie": self.cookie, **(headers or {})})
        assert answer.status == status, (path, answer.status, answer.text[:2000])
        return answer


@contextmanager
def client_of(repository: Path) -> Iterator[Client]:
    """Opens a repository for a page and yields a caller of it."""
    with ViewedRepository.open(repository) as viewed:
        yield Client(application(viewed, TOKEN))
