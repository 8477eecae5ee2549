"""The application: addresses to pages, and every failure to a page that says what happened."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vfs.api.hints import hint_for_elsewhere
from vfs.api.views import file_views, image_views
from vfs.api.views.viewed_repository import ViewedRepository
from vfs.errors import InvalidInput, NotFound, Unsupported, VfsError, describe_error
from vfs.web.page_addresses import Query
from vfs.web.pages import PAGES, PARTS, Page, drawn_image
from vfs.web.rendering import STATIC, render
from vfs.web.security import App, Guard
from vfs.web.standalone_page import exported

_DOWNLOAD_BYTES_MAX = 256 << 20

log = logging.getLogger(__name__)


class Pages:
    """Answers requests from one repository."""

    def __init__(self, viewed: ViewedRepository) -> None:
        self._viewed = viewed

    def routes(self) -> list[Route | Mount]:
        """Returns the addresses that there are."""
        routes: list[Route | Mount] = [Mount("/static", StaticFiles(directory=STATIC))]
        for name in PAGES:
            routes.append(Route(f"/{name}", self.page, name=f"{name}-page"))
            routes += [
                Route(f"/{name or 'history'}.{kind}", self.page, name=f"{name}-{kind}") for kind in ("json", "html")
            ]
        routes += [Route(f"/{name}", self.page, name=name) for name in PARTS]
        return [*routes, Route("/image", self.image), Route("/download", self.download)]

    def page(self, request: Request) -> Response:
        """Answers with a page, its document, or the page as a file."""
        return self._answer(request, self._page)

    def image(self, request: Request) -> Response:
        """Answers with a re-encoded image."""
        return self._answer(request, self._image)

    def download(self, request: Request) -> Response:
        """Answers with a file's bytes, to be saved and never shown."""
        return self._answer(request, self._download)

    def _answer(self, request: Request, answer: Callable[[Request, Query], Response]) -> Response:
        as_json = request.url.path.endswith(".json")
        try:
            return answer(request, Query(request.scope["query_string"]))
        except VfsError as error:
            return self._failure(request, error, as_json=as_json)
        except OSError as error:
            return self._failure(request, VfsError(describe_error(error)[0]), as_json=as_json)
        except Exception as error:
            # A record of another clone may have an unforeseen form: the page reports that, and shows the next one.
            log.exception("%s", request.url.path)
            return self._failure(request, VfsError(f"this is a defect of the page: {error!r:.200}"), as_json=as_json)

    def _page(self, request: Request, query: Query) -> Response:
        name, _, kind = request.url.path[1:].partition(".")
        name = "" if name == "history" else name
        page = (PAGES.get(name) or PARTS[name])(self._viewed, query)
        if kind == "json":
            return _json(page.document)
        shown = self._rendered(name, page, query, is_export=kind == "html")
        if kind != "html":
            return Response(shown, media_type="text/html; charset=utf-8", headers={"cache-control": "no-store"})
        return self._as_file(page, query, shown)

    def _rendered(self, name: str, page: Page, query: Query, *, is_export: bool) -> bytes:
        branch = query.text("branch") or None
        about = self._viewed.about(branch)
        asked = [(key, value) for key, value in query.pairs if key != "token"]
        return render(
            page.template,
            title=page.title,
            about=about,
            branch=branch,
            page=name,
            asked=asked,
            export=is_export,
            document=page.document,
            **page.more,
        )

    def _as_file(self, page: Page, query: Query, shown: bytes) -> Response:
        def image(address: str) -> bytes | None:
            try:
                drawn = drawn_image(self._viewed, Query(address.partition("?")[2]))
            except VfsError:
                return None
            return drawn[0] if drawn is not None else None

        about = self._viewed.about(query.text("branch") or None)
        data = exported(shown, image, f"{page.title} · {about['name']}")
        name = "".join(letter if letter.isalnum() else "-" for letter in page.title)[:60]
        return Response(
            data,
            media_type="text/html; charset=utf-8",
            headers={
                "content-disposition": f"attachment; filename*=UTF-8''{quote(name)}.html",
                "cache-control": "no-store",
            },
        )

    def _image(self, request: Request, query: Query) -> Response:
        drawn = drawn_image(self._viewed, query)
        if drawn is None:
            return Response((STATIC / "no-picture.png").read_bytes(), media_type="image/png")
        data, tag = drawn
        headers = {"etag": f'"{tag}"', "cache-control": "private, no-cache"}
        if request.headers.get("if-none-match") == f'"{tag}"':
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=image_views.media_type(data), headers=headers)

    def _download(self, _request: Request, query: Query) -> Response:
        version = self._viewed.version(query.text("v"), query.text("branch") or None)
        entry = self._viewed.require_entry(version, query.path())
        if entry.size > _DOWNLOAD_BYTES_MAX:
            raise InvalidInput("files above 256 MiB are not sent", hint="Read it through a mount.")
        data = file_views.download(self._viewed, version, query.path(), _DOWNLOAD_BYTES_MAX)
        name = quote(os.path.basename(query.path()))
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"content-disposition": f"attachment; filename*=UTF-8''{name}", "cache-control": "no-store"},
        )

    def _failure(self, request: Request, error: VfsError, *, as_json: bool) -> Response:
        status = 404 if isinstance(error, NotFound) else 400 if isinstance(error, InvalidInput) else 500
        if status == 500 and not isinstance(error, Unsupported):
            log.warning("%s: %s", request.url.path, error.message)
        hint = hint_for_elsewhere(error.hint, str(self._viewed.repository.path))
        value = {"error": error.code, "message": error.message, "hint": hint}
        if as_json:
            return _json(value, status)
        try:
            about = self._viewed.about(None)
            is_empty = not any(branch["versions"] for branch in about["branches"])
        except (VfsError, OSError):
            about = {"name": self._viewed.repository.path.name, "path": "", "branch": "", "branches": [], "notices": []}
            is_empty = False
        shown = render(
            "error.html", title="Not found" if status == 404 else "Failed", about=about, branch=None, page="error",
            asked=[], export=False, document=value, is_empty=is_empty, status=status,
        )  # fmt: skip
        return Response(shown, status, {"cache-control": "no-store"}, "text/html; charset=utf-8")


def _json(value: Any, status: int = 200) -> Response:
    data = json.dumps(value, ensure_ascii=True).encode()
    return Response(data, status, {"cache-control": "no-store"}, "application/json")


def application(viewed: ViewedRepository, token: str) -> App:
    """Returns the application, guarded."""
    return Guard(Starlette(routes=Pages(viewed).routes()), token)
