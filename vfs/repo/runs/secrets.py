"""Secrets: words of arguments and of the environment that look like one are replaced before anything is stored.

The replacement has a keyed hash, so that two records tell whether both had the same secret. The key is made once, is
in no record, and never leaves the repository.

In output, in the code's patch and in all texts of a record known secrets are replaced, tokens of known forms, passwords
in addresses, and literals that are assigned to a name like `password`. A patch whose lines were changed so applies all
the same (vfs/repo/runs/patches.py). What is shorter than six characters stays: it would hit other words.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from vfs.backend.rooted_path import RootedPath
from vfs.errors import VfsError

_KEY_FILE = "runs.key"
_KEY_BYTES = 32
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|passw|secret|token(?![a-z])|api[-_]?key|access[-_]?key|private[-_]?key|credential|auth$|bearer|"
    r"(^|[-_])(pwd|pw|key|dsn)$|cookie|connection[-_]?string|"
    r"(amz|goog)[-_](signature|credential)|(^|[-_])sig$",
    re.IGNORECASE,
)
_HARMLESS_NAME = re.compile(
    r"(^|[-_])(tokens?[-_](len|length|max|count|size|limit|id|ids|type)|"
    r"(max|num|pad|bos|eos|unk|sep|cls|mask|end|start|stop|special)[-_]tokens?)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\b(?:sk-[\w-]{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{16,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|wandb_\w{20,}|npm_\w{20,}|"
    r"(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[\w+/=]{8,})"
)
_IN_ADDRESS = re.compile(r"(?<=://)([^/\s:@'\"]*):([^/\s@'\"]+)(?=@)")
_KEY_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@'\"]{16,}(?=@)")
"""A key in the place of a user's name, as GitHub and Sentry take it; users have shorter names."""
_NAMED_INSIDE = re.compile(
    r"(?<![\w-])(-{1,2}[A-Za-z_][\w.-]{0,100}[= ]|[A-Za-z_][\w.-]{0,100}=)([^\s;&|'\"=$/.\[][^\s;&|'\"]{0,4096})"
)
"""A name with a value in the script of a shell."""
_ASSIGNED = re.compile(
    r"(?<![\w.])([\"']?)([A-Za-z_][\w.-]{0,100}+)\1[ \t]{0,8}+"
    r"(?::[ \t]{0,8}+[A-Za-z_][\w.|\[\] ]{0,40}+)?(?::=|[:=])[ \t]{0,8}+"
    r"(?:[rbuf]{0,2}\"([^\"\n]{6,1024}+)\"|[rbuf]{0,2}'([^'\n]{6,1024}+)'|"
    r"([^\s\"'()\[\]{}<>,;$`]{6,1024}+)(?=[ \t\r]{0,8}$))",
    re.MULTILINE,
)
"""A name with a literal in a line of code or configuration: in quotes, or bare up to the end of the line."""
_EXPORTED = re.compile(r"(?<![\w.$])([A-Z][A-Z0-9_]{1,100}+)=([^\s;&|'\"=$/.\[(<{][^\s;&|'\"()]{5,1024}+)(?=[\s;&|]|$)")
"""A variable with a value in a script of a shell."""
_EXPRESSION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_KEY_NAME = re.compile(r"(^|[-_.])(key|auth|sig|pw)$", re.IGNORECASE)
_LONG_KEY_NAME = re.compile(r"(api|access|private|secret)[-_]?key$", re.IGNORECASE)
_PHRASE_NAME = re.compile(r"pass|secret|credential", re.IGNORECASE)
_KEY_MIN = 16
"""Code calls much `key` that is no secret: shorter values, and words, stay."""
_OPTION_NAME = re.compile(r"-{0,2}[\w.:-]+")
REDACTED = "[redacted:"
"""How what stands for a secret begins."""
_LINE_MIN = 16
_IN_TEXT_MIN = 6
"""Shortest secret that is also replaced where it stands in output or in a patch: shorter ones would hit other words."""


class Secrets:
    """The secrets of one run."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._values: set[str] = set()

    @classmethod
    def of_repository(cls, repository: os.PathLike[str]) -> Secrets:
        """Returns an empty set with a repository's key, which is made where there is none."""
        path = RootedPath(repository, _KEY_FILE)  # type: ignore[arg-type]
        try:
            key = path.read_bytes(_KEY_BYTES)
            if len(key) == _KEY_BYTES:
                return cls(key)
        except (OSError, VfsError):
            pass
        key = os.urandom(_KEY_BYTES)
        descriptor = path.create()
        try:
            os.write(descriptor, key)
        finally:
            os.close(descriptor)
        return cls(key)

    def learn(self, variables: Mapping[str, str]) -> None:
        """Takes in the values of environment variables whose names, or which themselves, look like secrets."""
        for name, value in variables.items():
            # PWD is the current directory, and a path is where a secret is and none itself.
            if value and is_secret_name(name) and not _is_path(value):
                self._add(value)
            for found in _formed(value):
                self._add(found)

    def _add(self, value: str) -> None:
        """Takes in a secret, as it is and as texts have it: escaped, in an address, the lines of a longer one."""
        self._values.update((value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]))
        self._values.add(quote(value, safe="", errors="surrogateescape"))
        lines = value.splitlines()
        if len(lines) > 1:
            self._values.update(line for line in lines if len(line) >= _LINE_MIN)

    def words(self, command: Iterable[str]) -> list[str]:
        """Returns a command without its secrets, and takes them in."""
        # A word may have what a later one says to be a secret.
        return [self.text(word) for word in self._words(command)]

    def _words(self, command: Iterable[str]) -> list[str]:
        words = []
        is_next = False
        for word in command:
            name, equals, value = word.partition("=")
            if is_next and not word.startswith("--"):
                self._add(word)
                words.append(self.redacted(word))
            elif equals and value and _OPTION_NAME.fullmatch(name) and is_secret_name(name):
                self._add(value)
                words.append(f"{name}={self.redacted(value)}")
            else:
                words.append(self._inside(word))
            is_next = not equals and word.startswith("-") and is_secret_name(word.lstrip("-"))
        return words

    def _inside(self, word: str) -> str:
        word = self._without_formed(word, _formed(word))
        for name, value in _NAMED_INSIDE.findall(word):
            if is_secret_name(name[:-1].lstrip("-")):
                self._add(value)
                word = word.replace(name + value, name + self.redacted(value))
        return self.text(word)

    def _without_formed(self, text: str, formed: set[str]) -> str:
        """Takes in secrets that a text has by their form, and returns it without them."""
        for value in formed:
            self._add(value)
        text = _SECRET_VALUE.sub(lambda match: self.redacted(match[0]), text)
        text = _IN_ADDRESS.sub(lambda match: f"{match[1]}:{self.redacted(match[2])}", text)
        return _KEY_IN_ADDRESS.sub(lambda match: self.redacted(match[0]), text)

    def redacted(self, value: str) -> str:
        """Returns what stands for a secret."""
        digest = hashlib.blake2b(value.encode("utf-8", "surrogateescape"), digest_size=4, key=self._key)
        return f"{REDACTED}{digest.hexdigest()}]"

    def text(self, text: str) -> str:
        """Returns a text without the known secrets."""
        for value in self._long():
            if value in text:
                text = text.replace(value, self.redacted(value))
        return text

    def data(self, data: bytes) -> bytes:
        """Returns output or a patch without the known secrets, and without those that it has by their form."""
        text = data.decode("utf-8", "surrogateescape")
        formed = _formed(text)
        if formed:
            text = self._without_formed(text, formed)
        text = _ASSIGNED.sub(self._without_literal, text)
        data = _EXPORTED.sub(self._without_variable, text).encode("utf-8", "surrogateescape")
        for value in self._long():
            raw = value.encode("utf-8", "surrogateescape")
            if raw in data:
                data = data.replace(raw, self.redacted(value).encode())
        return data

    def _without_literal(self, match: re.Match[str]) -> str:
        name, value, bare = match[2], match[3] or match[4], match[5]
        if not is_secret_name(name) or not _is_credential(name, value or bare, is_bare=bare is not None):
            return match[0]
        self._add(value or bare)
        start = match.start(5 if bare is not None else 3 if match[3] else 4) - match.start()
        return match[0][:start] + self.redacted(value or bare) + match[0][start + len(value or bare) :]

    def _without_variable(self, match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if not is_secret_name(name) or value.startswith(REDACTED):
            return match[0]
        self._add(value)
        return f"{name}={self.redacted(value)}"

    def _long(self) -> list[str]:
        return sorted((value for value in self._values if len(value) >= _IN_TEXT_MIN), key=len, reverse=True)


def _formed(text: str) -> set[str]:
    """Returns what is a secret by its form: tokens, passwords and keys in addresses."""
    passwords = (password for _, password in _IN_ADDRESS.findall(text))
    found = {*_SECRET_VALUE.findall(text), *passwords, *_KEY_IN_ADDRESS.findall(text)}
    return {value for value in found if not value.startswith(REDACTED)}


def _is_path(value: str) -> bool:
    """Returns True for a path: there is something at it, or in the directory that it names."""
    if not value.startswith(("/", "./", "../", "~/")):
        return False
    return os.path.lexists(value) or (os.path.dirname(value) != "/" and os.path.isdir(os.path.dirname(value)))


def _is_credential(name: str, value: str, *, is_bare: bool) -> bool:
    """Returns True for a literal that may be a secret, where its name says so: no path, marker, text or expression."""
    if value.startswith((REDACTED, "/", "./", "<", "[", "{", "$", "%")):
        return False
    if any(map(str.isspace, value)) and _PHRASE_NAME.search(name) is None:
        return False
    is_mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    if _KEY_NAME.search(name) and _LONG_KEY_NAME.search(name) is None:
        return is_mixed and len(value) >= _KEY_MIN
    return not is_bare or (is_mixed and _EXPRESSION.fullmatch(value) is None)


def is_secret_name(name: str) -> bool:
    """Returns True if an option or a variable of this name has a secret as its value."""
    return _SECRET_NAME.search(name) is not None and _HARMLESS_NAME.search(name) is None
