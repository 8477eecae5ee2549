"""Tables of versions and changes as HTML that stands alone: no script, nothing from elsewhere; and whole pages of it.

All text is escaped: names of files and messages come from others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from vfs.api.documents import VersionDocument
from vfs.formats.quantities import human_size

PAGE_BYTES_MAX = 1_900_000
"""A page stays below 2 MB."""

_STYLE = """\
.vfs{font:14px/1.5 system-ui,sans-serif;color:inherit}
.vfs table{border-collapse:collapse;margin:.5em 0}
.vfs td,.vfs th{padding:.15em .7em;text-align:left;vertical-align:top;border-bottom:1px solid #8884}
.vfs td.n,.vfs th.n{text-align:right;font-variant-numeric:tabular-nums}
.vfs code,.vfs pre{font:13px/1.45 ui-monospace,monospace}
.vfs pre{margin:.2em 0 1em;padding:.5em .8em;overflow:auto;border:1px solid #8884;border-radius:4px}
.vfs .added{color:#1a7f37}.vfs .removed{color:#cf222e}.vfs .modified{color:#9a6700}.vfs .renamed{color:#0969da}
.vfs .dim{opacity:.7}
@media(prefers-color-scheme:dark){.vfs .added{color:#3fb950}.vfs .removed{color:#ff7b72}
.vfs .modified{color:#d29922}.vfs .renamed{color:#58a6ff}}
"""
_PAGE_STYLE = "body{margin:2em auto;max-width:70em;padding:0 1em;background:Canvas;color:CanvasText}"


def text(value: str) -> str:
    """Returns text for HTML; undecodable bytes of names and control characters as replacement characters."""
    plain = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not plain.isprintable():
        plain = "".join(each if each.isprintable() or each in "\t\n" else "\N{REPLACEMENT CHARACTER}" for each in plain)
    return escape(plain)


def fragment(*parts: str) -> str:
    """Returns parts as one element with its style, as a notebook shows it."""
    return f'<div class="vfs"><style>{_STYLE}</style>{"".join(parts)}</div>'


def page(title: str, body: str) -> str:
    """Returns a whole page with a fragment."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{_PAGE_STYLE}</style></head><body>{body}</body></html>\n"
    )


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; a head is (words, class of its column), the cells of rows are HTML."""
    head = "".join(f'<th class="{kind}">{text(words)}</th>' for words, kind in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{kind}">{cell}</td>' for (_, kind), cell in zip(heads, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def versions_table(versions: Sequence[VersionDocument], *, more: bool = False) -> str:
    """Returns versions as a table; `more`: says that there are older ones."""
    rows = []
    for version in versions:
        tags = "".join(f" <b>{text(tag)}</b>" for tag in version["tags"])
        rows.append(
            (
                f"{text(version['version'])}{tags}",
                f"<code>{version['id'][:8]}</code>",
                text(version["time"][:16].replace("T", " ")),
                text(version["author"]),
                f"{version['files']:,}",
                text(human_size(version["size"])),
                text(version["message"].partition("\n")[0]),
                " ".join(f"{text(key)}={text(value)}" for key, value in version["meta"].items()),
            )
        )
    heads = [("version", ""), ("id", ""), ("time (UTC)", ""), ("author", ""), ("files", "n"), ("size", "n")]
    heads += [("message", ""), ("metadata", "dim")]
    return fragment(table(heads, rows), '<p class="dim">… and older ones</p>' if more else "")
