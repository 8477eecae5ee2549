"""Changes between two versions as HTML and as Markdown, for people who read a page or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from vfs.api.documents import ChangeDocument, VersionDocument
from vfs.api.html import PAGE_BYTES_MAX, fragment, text
from vfs.formats.quantities import human_count, human_size

MARKDOWN_BYTES_MAX = 60_000
"""Forges refuse longer comments (65,536 characters)."""
_LETTERS = {"added": "A", "modified": "M", "removed": "D", "renamed": "R"}
_LINE_CLASSES = dict(zip("+-~", ("added", "removed", "modified"), strict=True))
_MESSAGE_MAX = 500
_DETAIL_SHARE = 2
"""Details take up to a half of what the whole may have."""
_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&-])")


class FileDetail(NamedTuple):
    """What differs inside a file, in lines."""

    path: str
    lines: Sequence[str]


class Report(NamedTuple):
    """What is shown: the two versions, the changes, found while they are shown, and details of some of them.

    `old` is None before the first version, `new` None for the working layer.
    """

    old: VersionDocument | None
    new: VersionDocument | None
    changes: Iterable[ChangeDocument]
    details: Sequence[FileDetail] = ()


class _Sums:
    def __init__(self) -> None:
        self.counts = dict.fromkeys(_LETTERS, 0)
        self.old_bytes = self.new_bytes = 0

    def over(self, changes: Iterable[ChangeDocument]) -> Iterator[ChangeDocument]:
        """Yields the changes and counts them."""
        for change in changes:
            self.counts[change["change"]] += 1
            self.old_bytes += _bytes_of(change, "old")
            self.new_bytes += _bytes_of(change, "new")
            yield change

    def words(self) -> str:
        """Returns the sums as a sentence."""
        counts = [f"{count:,} {kind}" for kind, count in self.counts.items() if count]
        if not counts:
            return "No differences."
        return f"{', '.join(counts)}; {human_size(self.old_bytes)} → {human_size(self.new_bytes)} in changed files"


def _bytes_of(change: ChangeDocument, side: str) -> int:
    entry = change["old"] if side == "old" else change["new"]
    return entry["size"] if entry is not None and entry["type"] == "file" else 0


def _sizes(change: ChangeDocument) -> str:
    shown = [
        human_size(side["size"]) if side and side["type"] == "file" else "" for side in (change["old"], change["new"])
    ]
    old, new = shown
    return f"{old} → {new}" if old and new and old != new else new or old


def _title(report: Report) -> str:
    old = report.old["version"] if report.old is not None else "nothing"
    if report.new is None:
        return f"{old} → working layer"
    return f"{old} → {report.new['version']}: {report.new['message'].partition(chr(10))[0][:_MESSAGE_MAX]}"


def _origin(report: Report) -> str:
    ids = " → ".join(each["id"][:8] for each in (report.old, report.new) if each is not None)
    if report.new is None:
        return f"{ids}, not committed".removeprefix(", ")
    return f"{ids}, {report.new['author']}, {report.new['time'][:16].replace('T', ' ')} UTC"


def html_report(report: Report, bytes_max: int = PAGE_BYTES_MAX) -> str:
    """Returns a report as a fragment of HTML, of at most so many bytes; what is left out is counted."""
    sums = _Sums()
    details, left = _within(map(_html_detail, report.details), bytes_max // _DETAIL_SHARE)
    room = bytes_max - len(details.encode()) - 10_000
    rows, more = _within(map(_html_row, sums.over(report.changes)), room)
    shown = f"<table><tbody>{rows}</tbody></table>" if rows else ""
    return fragment(
        f"<h3>{text(_title(report))}</h3>",
        f'<p class="dim">{text(_origin(report))}</p>',
        f"<p>{text(sums.words())}</p>",
        shown,
        f'<p class="dim">… {human_count(more, "change")} more</p>' if more else "",
        details,
        f'<p class="dim">… {human_count(left, "file")} more changed inside</p>' if left else "",
    )


def _html_row(change: ChangeDocument) -> str:
    kind = change["change"]
    path = f"<code>{text(change['path'])}{'/' if change['type'] == 'directory' else ''}</code>"
    if "from" in change:
        path = f"<code>{text(change['from'] or '')}</code> → {path}"
    what = "" if not change["what"] or change["what"] == ["content"] else text(", ".join(change["what"]))
    return (
        f'<tr><td class="{kind}" title="{kind}">{_LETTERS[kind]}</td><td>{path}</td>'
        f'<td class="n">{text(_sizes(change))}</td><td class="dim">{what}</td></tr>'
    )


def _html_detail(detail: FileDetail) -> str:
    lines = []
    for line in detail.lines:
        kind = _LINE_CLASSES.get(line[:1], "")
        lines.append(f'<span class="{kind}">{text(line)}</span>' if kind else text(line))
    return f"<h4><code>{text(detail.path)}</code></h4><pre>" + "\n".join(lines) + "</pre>"


def markdown_report(report: Report, bytes_max: int = MARKDOWN_BYTES_MAX) -> str:
    """Returns a report as Markdown, of at most so many bytes; what is left out is counted."""
    sums = _Sums()
    details, left = _within(map(_markdown_detail, report.details), bytes_max // _DETAIL_SHARE)
    room = bytes_max - len(details.encode()) - 4_000
    rows, more = _within(map(_markdown_row, sums.over(report.changes)), room)
    parts = [f"### {markdown_text(_title(report))}\n", f"{markdown_text(_origin(report))}\n", f"{sums.words()}\n"]
    if rows:
        parts.append("|   | path | size | |\n|---|---|---:|---|\n" + rows)
    if more:
        parts.append(f"… {human_count(more, 'change')} more\n")
    parts += [details] if details else []
    if left:
        parts.append(f"… {human_count(left, 'file')} more changed inside\n")
    return "\n".join(parts)


def markdown_text(value: str) -> str:
    """Returns text that Markdown shows as it is: nothing in it marks up, links, mentions or ends a cell."""
    plain = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in plain)
    return _MARKS.sub(r"\\\1", shown)


def _markdown_row(change: ChangeDocument) -> str:
    path = markdown_text(change["path"]) + ("/" if change["type"] == "directory" else "")
    if "from" in change:
        path = f"{markdown_text(change['from'] or '')} → {path}"
    what = "" if change["what"] == ["content"] else ", ".join(change["what"])
    return f"| {_LETTERS[change['change']]} | {path} | {_sizes(change)} | {what} |\n"


def _markdown_detail(detail: FileDetail) -> str:
    # A fence longer than any in the text.
    longest = max((len(run) for line in detail.lines for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = [
        "".join(letter if letter.isprintable() or letter == "\t" else "\N{REPLACEMENT CHARACTER}" for letter in line)
        for line in detail.lines
    ]
    summary = f"<details><summary>{text(detail.path)}</summary>"
    return f"{summary}\n\n{fence}diff\n" + "\n".join(lines) + f"\n{fence}\n</details>\n"


def _within(parts: Iterable[str], bytes_max: int) -> tuple[str, int]:
    """Returns parts as long as they fit, joined, and the number of the others; reads all of them."""
    kept: list[str] = []
    left = size = 0
    for part in chain(parts):
        size += len(part.encode())
        if left or size > bytes_max:
            left += 1
        else:
            kept.append(part)
    return "".join(kept), left
