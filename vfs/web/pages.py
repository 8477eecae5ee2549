"""The pages: each takes what an address asks and returns a document and the template that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vfs.api.views import file_views, history, image_views, path_history, runs, table_views, version_comparison
from vfs.api.views.viewed_repository import ViewedRepository
from vfs.errors import InvalidInput
from vfs.web.page_addresses import Query


class Page(NamedTuple):
    """A page: its title, the template, the document that programs get too, and what else the template needs."""

    title: str
    template: str
    document: Mapping[str, Any]
    more: Mapping[str, Any] = {}


def _branch(query: Query) -> str | None:
    return query.text("branch") or None


def history_page(viewed: ViewedRepository, query: Query) -> Page:
    """The versions as a graph, with search."""
    branch, words = _branch(query), query.text("q")
    document = history.history(
        viewed, branch, all_branches=query.text("all") == "1", query=words, cursor=query.text("cursor")
    )
    named = history.found_version(viewed, words, branch) if words else None
    more = {"named": viewed.linked(named) if named is not None else None, "cursor": query.text("cursor")}
    return Page("History", "history.html", document, more)


def version_page(viewed: ViewedRepository, query: Query) -> Page:
    """One version, compared with the one before it."""
    version = viewed.version(query.text("v"), _branch(query))
    before = viewed.before(version)
    if before is None:
        listed = file_views.directory(viewed, version, b"", query.after())
        return Page(version.name, "directory.html", listed, {"version_head": viewed.linked(version), "before": None})
    document = version_comparison.compare(viewed, before, version, query.path(), query.after())
    return Page(version.name, "compare.html", document, {"version_head": document["new"]})


def files_page(viewed: ViewedRepository, query: Query) -> Page:
    """A directory or a file of a version."""
    version = viewed.version(query.text("v"), _branch(query))
    path = query.path()
    if file_views.kind_at(viewed, version, path) == "directory":
        document = file_views.directory(viewed, version, path, query.after())
        return Page(document["path"] or "Files", "directory.html", document, {"version_head": None})
    shown = file_views.file(viewed, version, path)
    title = shown["path"]
    if shown["shown_as"] == "table":
        table = table_views.table(viewed, version, path, _question(query))
        more = {"rows_a_page": table_views.ROWS, "columns_a_page": table_views.COLUMNS}
        more["first_column"] = query.number("column")
        return Page(title, "table.html", {**shown, "table": table}, more)
    if shown["shown_as"] == "image":
        return Page(title, "image.html", {**shown, "image": image_views.image(viewed, version, path)})
    return Page(title, "file.html", shown)


def _question(query: Query) -> table_views.TableQuestion:
    filters = []
    for text in query.every("f"):
        column, _, rest = text.partition("|")
        operator, _, value = rest.partition("|")
        filters.append((column, operator, value))
    return {
        "filters": filters,
        "condition": query.text("where"),
        "order": query.text("order"),
        "first": query.number("first"),
        "first_column": query.number("column"),
    }


def histogram_page(viewed: ViewedRepository, query: Query) -> Page:
    """The histogram of one column: a part of the page of a table."""
    version = viewed.version(query.text("v"), _branch(query))
    made = table_views.histogram(viewed, version, query.path(), query.text("name"), _question(query))
    document = {"name": query.text("name"), "histogram": made}
    return Page(query.text("name"), "histogram.html", document, {"question": _question(query)})


def compare_page(viewed: ViewedRepository, query: Query) -> Page:
    """Two versions: a directory with the summary first, or a file with what changed inside."""
    branch = _branch(query)
    if not query.text("a") and not query.text("b"):
        newest = viewed.version("", branch)
        before = viewed.before(newest)
        old, new = before if before is not None else newest, newest
    else:
        old, new = viewed.version(query.text("a"), branch), viewed.version(query.text("b"), branch)
    path = query.path()
    document = version_comparison.compare(viewed, old, new, path, query.after())
    title = f"{old.name} → {new.name}"
    if document["type"] == "directory":
        return Page(title, "compare.html", document, {"version_head": None})
    value: dict[str, Any] = dict(document)
    if not file_views.both_files(viewed, old, new, path):
        return Page(title, "compare_file.html", value, {"shown_as": ""})
    as_what = file_views.shown_as(path)
    if as_what == "table":
        key = query.optional("key")
        value["table"] = table_views.compare_tables(
            viewed, old, new, path, key, query.number("first"), query.text("kind")
        )
        if not value["table"]["problem"]:
            return Page(title, "compare_table.html", value, {"kind": query.text("kind"), "key_asked": key})
    if as_what == "image":
        value["images"] = [image_views.image(viewed, side, path) for side in (old, new)]
    value["inside"] = file_views.inside(viewed, old, new, path)
    return Page(title, "compare_file.html", value, {"shown_as": as_what})


def count_page(viewed: ViewedRepository, query: Query) -> Page:
    """How many files differ: a part of a comparison that goes on counting."""
    branch = _branch(query)
    old, new = viewed.version(query.text("a"), branch), viewed.version(query.text("b"), branch)
    before, now = version_comparison.sides(viewed, old, new, query.path())
    counted = version_comparison.count_changes(viewed, before, now, version_comparison.COUNT_MORE_S)
    document = {"old": viewed.linked(old), "new": viewed.linked(new), "path": query.text("path"), "count": counted}
    return Page("Count", "count.html", document)


def path_page(viewed: ViewedRepository, query: Query) -> Page:
    """All versions of a path."""
    document = path_history.path_history(viewed, query.path(), _branch(query), query.text("cursor"))
    title = document["path"] or "/"
    is_image = file_views.shown_as(query.path()) == "image"
    return Page(title, "path.html", document, {"is_image": is_image, "cursor": query.text("cursor")})


def runs_page(viewed: ViewedRepository, query: Query) -> Page:
    """The runs as a table."""
    document = runs.runs(viewed, query.number("first"), query.text("order"), query.text("q"))
    return Page("Runs", "runs.html", document)


def run_page(viewed: ViewedRepository, query: Query) -> Page:
    """One run with its curves."""
    document = runs.one_run(viewed, query.text("name"))
    return Page(document["run"]["name"], "run.html", document)


def rundiff_page(viewed: ViewedRepository, query: Query) -> Page:
    """Two runs compared."""
    document = runs.two_runs(viewed, query.text("a"), query.text("b"))
    return Page("Two runs", "rundiff.html", document)


def lineage_page(viewed: ViewedRepository, query: Query) -> Page:
    """What a version comes from and which runs read it."""
    document = runs.lineage(viewed, viewed.version(query.text("of"), _branch(query)))
    return Page(f"Lineage of {document['title']}", "lineage.html", document)


PAGES: dict[str, Callable[[ViewedRepository, Query], Page]] = {
    "": history_page,
    "version": version_page,
    "files": files_page,
    "compare": compare_page,
    "path": path_page,
    "runs": runs_page,
    "run": run_page,
    "rundiff": rundiff_page,
    "lineage": lineage_page,
}
"""By the first part of the address; each has `.json` and `.html`, a file that opens without a server."""

PARTS: dict[str, Callable[[ViewedRepository, Query], Page]] = {"count": count_page, "histogram": histogram_page}
"""What pages fetch while they are looked at."""


def drawn_image(viewed: ViewedRepository, query: Query) -> tuple[bytes, str] | None:
    """Returns an image of a version, or the difference of two, with a tag of its content."""
    branch = _branch(query)
    if query.text("a"):
        old, new = viewed.version(query.text("a"), branch), viewed.version(query.text("b"), branch)
        return image_views.drawn_difference(viewed, old, new, query.path())
    edge = query.number("edge")
    if edge not in image_views.EDGES:
        raise InvalidInput(f"images are drawn with an edge of {' or '.join(map(str, image_views.EDGES))} pixels")
    return image_views.drawn(viewed, viewed.version(query.text("v"), branch), query.path(), edge)
