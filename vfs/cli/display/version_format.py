"""How a version is described in one line of the log."""

from __future__ import annotations

from vfs.cli.terminal.columns import NAME_MAX, cut
from vfs.model.ids import SHORT_HEX, CommitId
from vfs.model.names import show_path
from vfs.model.objects import Version
from vfs.repo.repository import Repository


def short_id(commit_id: CommitId) -> str:
    """Returns the digits of a commit id that are shown."""
    return commit_id.hex()[:SHORT_HEX]


def safe_text(text: str) -> str:
    """Returns a message's or author's text safe for a terminal: control characters escaped, line ends kept."""
    return "\n".join(show_path(line.encode("utf-8", "surrogateescape")) for line in text.splitlines())


def one_line(text: str) -> str:
    """Returns an author's or branch's name safe for a table: control characters escaped, line ends too."""
    return show_path(text.encode("utf-8", "surrogateescape"))


def author_cell(author: str) -> str:
    """Returns an author's name for a list, the end of a long one cut."""
    return cut(one_line(author), NAME_MAX)


def first_line(message: str) -> str:
    """Returns a message's first line, safe to print."""
    lines = safe_text(message).splitlines()
    return lines[0] if lines else ""


def meta_text(repository: Repository, version: Version) -> str:
    """Returns a version's metadata in one line: `acc=0.93 loss=0.1 by r17`."""
    return " ".join(_pair_text(repository, key, value) for key, value in version.commit.meta)


def _pair_text(repository: Repository, key: str, value: str) -> str:
    from vfs.repo.runs.records import MADE_BY

    name, shown = meta_cells(repository, key, value)
    return f"{name} {shown}" if key == MADE_BY else first_line(f"{key}={value}")


def meta_cells(repository: Repository, key: str, value: str) -> tuple[str, str]:
    """Returns a pair of a version's metadata for display; the runs that made it are `by`, `r17`."""
    from vfs.repo.runs.made_by import run_names
    from vfs.repo.runs.records import MADE_BY

    if key == MADE_BY:
        return "by", one_line(", ".join(run_names(repository, value)))
    return one_line(key), first_line(value)
