"""Ignore rules: which paths an import or a commit leaves out, by patterns in the syntax of gitignore.

Patterns come from the command line, from `.vfsignore` files, which hold below the directory that they lie in, and from
the program (`DEFAULTS`, where they are asked for), in this order of precedence; within one source the last match
decides. What is below an ignored directory is ignored. What a version holds already goes on being versioned, whatever
the rules are: the callers ensure that.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from vfs.errors import InvalidInput
from vfs.model.names import join_path, show_path

RULES_NAME = b".vfsignore"
RULES_BYTES_MAX = 1024 * 1024
DEFAULTS = (
    b".ipynb_checkpoints/",
    b"__pycache__/",
    b"*.py[co]",
    b".DS_Store",
    b"Thumbs.db",
    b".nfs*",
    b".~lock.*#",
    b"*.swp",
    b"*~",
    b"*.tmp",
    b"*.part",
    b"*.crdownload",
)
"""What editors, notebooks, file managers and downloads leave beside data; in force where it is asked for alone."""
_STAR, _ANY = "[^/]*", "[^/]"
"""What the library makes of `*` and `?`."""
_EVERYTHING = "."
"""What it makes of `**` and of `**/*`."""
_BOM = b"\xef\xbb\xbf"


class Pattern(NamedTuple):
    """One line: what it matches (the last name, or the path from the rules' directory), and its effect."""

    regex: re.Pattern[bytes]
    is_open: bool
    """The regular expression need not reach the path's end: the pattern ends in `**`, or means everything."""
    of_name: bool
    directories_only: bool
    ignores: bool

    def matches(self, path: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Returns True if the pattern matches a path below the rules' directory; `name` is its last part."""
        if self.directories_only and not is_directory:
            return False
        subject = name if self.of_name else path
        return (self.regex.match(subject) if self.is_open else self.regex.fullmatch(subject)) is not None


class _Source(NamedTuple):
    """Patterns, and the directory below which they hold."""

    directory: bytes
    patterns: tuple[Pattern, ...]


class Rules(NamedTuple):
    """The rules that hold in one directory: those of the command line, of files (the nearest first), and the defaults.

    `reads_files`: whether `.vfsignore` files count.
    """

    first: _Source = _Source(b"", ())
    nested: tuple[_Source, ...] = ()
    last: _Source = _Source(b"", ())
    reads_files: bool = True

    def inside(self, directory: bytes, text: bytes | None) -> Rules:
        """Returns the rules in a directory below, whose `.vfsignore` has `text` (None: there is none)."""
        patterns = parse(text) if text is not None and self.reads_files else ()
        return self._replace(nested=(_Source(directory, patterns), *self.nested)) if patterns else self

    @property
    def is_empty(self) -> bool:
        """Returns True if nothing is ignored here, nor below where no further files are."""
        return not (self.first.patterns or self.nested or self.last.patterns)

    def ignores(self, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Returns True if a name in a directory, which is not ignored itself, is ignored."""
        if self.is_empty:
            return False
        path = join_path(directory, name)
        for source in (self.first, *self.nested, self.last):
            below = path[len(source.directory) + 1 :] if source.directory else path
            for pattern in reversed(source.patterns):
                if pattern.matches(below, name, is_directory=is_directory):
                    return pattern.ignores
        return False


class Excluded(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a command excludes: its patterns, the defaults, and those of `.vfsignore` files."""

    patterns: list[bytes] = []
    defaults: bool = False
    reads_files: bool = True


def rules_of(excluded: Excluded) -> Rules:
    """Returns the rules of a command, above any directory. Raises InvalidInput for what is no pattern."""
    return Rules(
        _Source(b"", tuple(map(_required, excluded.patterns))),
        (),
        _Source(b"", parse(b"\n".join(DEFAULTS)) if excluded.defaults else ()),
        excluded.reads_files,
    )


def parse(text: bytes) -> tuple[Pattern, ...]:
    """Returns the patterns of a `.vfsignore` file. As in git, an invalid pattern matches nothing."""
    found = (_pattern(line.removesuffix(b"\r")) for line in text.removeprefix(_BOM).split(b"\n"))
    return tuple(pattern for pattern in found if pattern is not None)


def check_size(path: bytes, size: int) -> None:
    """Raises InvalidInput for a `.vfsignore` file that is too large to be one."""
    if size > RULES_BYTES_MAX:
        raise InvalidInput(
            f"{show_path(path)} has {size:,} bytes, which is too much for ignore rules",
            hint=f"Make it smaller than {RULES_BYTES_MAX:,} bytes, or give it another name.",
        )


def _required(line: bytes) -> Pattern:
    pattern = _pattern(line)
    if pattern is None:
        raise InvalidInput(
            f"{show_path(line) or 'an empty word'} is no pattern",
            hint="Patterns are written as in .gitignore: `*.tmp`, `cache/`, `/top/only`, `!keep.tmp`.",
        )
    return pattern


def _pattern(line: bytes) -> Pattern | None:
    """Returns the pattern of a line, None for a comment and what matches nothing."""
    words = _without_trailing_spaces(line.partition(b"\0")[0])
    if words.startswith(b"#"):
        return None
    ignores = not words.startswith(b"!")
    words = words if ignores else words[1:]
    directories_only = words.endswith(b"/")
    words = words.removesuffix(b"/")
    of_name = b"/" not in words
    words = words.removeprefix(b"/")
    if not words:
        return None
    # Most commands that load rules meet no pattern.
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    from vfs.repo.ignore_brackets import extract_brackets, insert_brackets

    try:
        marked, sets = extract_brackets(words.decode("latin-1"))
        # Anchored in any case: whether a pattern is about the last name alone is decided here.
        text, _ = GitIgnoreSpecPattern.pattern_to_regex("/" + marked)
    except ValueError:
        return None
    if text is None:
        return None
    regex = re.compile(insert_brackets(_without_retries(text), sets).encode("latin-1"), re.DOTALL)
    is_open = text == _EVERYTHING or words.endswith(b"/**")
    return Pattern(regex, is_open, of_name, directories_only, ignores)


def _without_retries(regex: str) -> str:
    """Returns the library's regular expression such that a star which has found what follows it is not tried again.

    What stands between two stars of a name has a fixed length, so its first place is as good as any later one. Without
    this, `*a*a*a*a*b` takes time without bound for a long name.
    """
    first, *pieces = regex.split(_STAR)
    made = [first]
    for piece in pieces:
        is_last = not {"/", "$"}.isdisjoint(piece.replace(_ANY, "").replace("\\$", ""))
        made.append(f"{_STAR}{piece}" if is_last else f"(?>{_STAR}?{piece})")
    return "".join(made)


def _without_trailing_spaces(line: bytes) -> bytes:
    """Returns a line without the spaces at its end; the last of them stays where it is escaped."""
    kept = line.rstrip(b" ")
    escapes = len(kept) - len(kept.rstrip(b"\\"))
    return kept + b" " if escapes % 2 and len(kept) < len(line) else kept
