"""A diff as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from vfs.api.change_reports import FileDetail, Report, html_report, markdown_report
from vfs.api.documents import ChangeDocument, change_document
from vfs.errors import VfsError

if TYPE_CHECKING:
    from vfs.python.version_changes import Diff

_FILES_MAX = 10
_LINES_MAX = 30
_CHARACTERS_MAX = 500


def diff_fragment(diff: Diff) -> str:
    """Returns a diff as a fragment of HTML."""
    return html_report(_report(diff))


def diff_markdown(diff: Diff) -> str:
    """Returns a diff as Markdown."""
    return markdown_report(_report(diff))


def _report(diff: Diff) -> Report:
    details = list(islice(_details(diff), _FILES_MAX))
    return Report(diff.old.as_dict(), diff.new.as_dict(), _documents(diff), details)


def _documents(diff: Diff) -> Iterator[ChangeDocument]:
    return (change_document(change) for change in diff._stored_changes())  # noqa: SLF001  A report is of the same package.


def _details(diff: Diff) -> Iterator[FileDetail]:
    for change in diff:
        if change.old is None or change.new is None or not (change.old.is_file and change.new.is_file):
            continue
        if "content" not in change.what:
            continue
        try:
            lines = change.detail()
        except VfsError as error:
            lines = [f"cannot be compared: {error}"]
        shown = [line[:_CHARACTERS_MAX] for line in lines[:_LINES_MAX]]
        if len(lines) > _LINES_MAX:
            shown.append(f"… {len(lines) - _LINES_MAX:,} lines more")
        yield FileDetail(change.path, shown)
