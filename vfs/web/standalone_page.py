"""A page as one file that opens without a server: styles and images inside, no script, no links to the server."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable

from vfs.api.views.image_views import media_type
from vfs.web.rendering import STATIC

BYTES_MAX = 2_000_000
"""The size of the whole file; images that do not fit are left out, and the page says so."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLES = ("page.css",)

_HEAD = re.compile(r"<link\b[^>]*>\s*|<script\b[^>]*></script>\s*|<meta name=\"htmx-config\"[^>]*>\s*")
_FORMS = re.compile(r"<form\b.*?</form>|<nav\b.*?</nav>|<button\b.*?</button>|<input\b[^>]*>", re.DOTALL)
_LINK = re.compile(r"<(/?)a\b[^>]*>")
_IMAGE = re.compile(r'<img\b[^>]*?\bsrc="(/image\?[^"]*)"[^>]*>')
_ALT = re.compile(r'\balt="([^"]*)"')
_FETCHING = re.compile(r' (?:data-)?hx-[a-z:-]+="[^"]*"')


def exported(page: bytes, image: Callable[[str], bytes | None], source: str) -> bytes:
    """Returns a rendered page as a file of its own.

    `image` returns the bytes of a picture by its address, or None. `source` says what the page shows, and of what.
    """
    text = page.decode()
    # Attributes hold no `>`: the templates escape it.
    for pattern in (_HEAD, _FORMS):
        text = pattern.sub("", text)
    text = _LINK.sub(r"<\1span>", _FETCHING.sub("", text))
    styles = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in _STYLES)
    head = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<style>\n{styles}\n</style>\n'
    text = text.replace("</head>", f"{head}</head>", 1)
    note = f'<footer class="exported">{html.escape(source)}</footer>'
    room = BYTES_MAX - len(text.encode("utf-8", "backslashreplace")) - len(note) - 1000
    left_out = 0

    def inlined(match: re.Match[str]) -> str:
        nonlocal room, left_out
        alt = _ALT.search(match[0])
        words = alt[1] if alt is not None else ""
        data = image(html.unescape(match[1]))
        encoded = base64.b64encode(data).decode() if data is not None else ""
        if data is None or len(encoded) > room:
            left_out += 1
            return f"<em>{words}</em>"
        room -= len(encoded)
        return f'<img class="drawn" alt="{words}" src="data:{media_type(data)};base64,{encoded}">'

    text = _IMAGE.sub(inlined, text)
    if left_out:
        note = f'<p class="hint">{left_out} pictures are left out, to keep this file small.</p>{note}'
    return text.replace("</body>", f"{note}</body>", 1).encode("utf-8", "backslashreplace")
