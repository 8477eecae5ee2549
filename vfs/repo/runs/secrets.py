"""Secrets: words of arguments and of the environment that look like one are replaced before anything is stored.

The replacement has a keyed hash, so that two records tell whether both had the same secret. The key is made once, is
in no record, and never leaves the repository.

In output and in the code's patch known secrets are replaced, tokens of known forms, and passwords in addresses. A value
that a line of code assigns stays, also to a name like `password`: most of them are none, and a patch without them would
no longer apply.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping

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
    r"(^|[-_])(tokens?[-_](len|length|max|count|size|limit)|max[-_]tokens?|num[-_]tokens?)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"\b(?:sk-[\w-]{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|hf_\w{16,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|wandb_\w{20,}|npm_\w{20,})"
)
_IN_ADDRESS = re.compile(r"(?<=://)([^/\s:@'\"]*):([^/\s@'\"]+)(?=@)")
_KEY_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@'\"]{16,}(?=@)")
"""A key in the place of a user's name, as GitHub and Sentry take it; users have shorter names."""
_NAMED_INSIDE = re.compile(
    r"(?<![\w-])(-{1,2}[A-Za-z_][\w.-]{0,100}[= ]|[A-Za-z_][\w.-]{0,100}=)([^\s;&|'\"=$/.\[][^\s;&|'\"]{0,4096})"
)
"""A name with a value in the script of a shell."""
_OPTION_NAME = re.compile(r"-{0,2}[\w.:-]+")
REDACTED = "[redacted:"
"""How what stands for a secret begins."""
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
            if value and not value.startswith(("/", ".")) and is_secret_name(name):
                self._values.add(value)
            self._values.update(_formed(value))

    def words(self, command: Iterable[str]) -> list[str]:
        """Returns a command without its secrets, and takes them in."""
        words = []
        is_next = False
        for word in command:
            name, equals, value = word.partition("=")
            if is_next and not word.startswith("--"):
                self._values.add(word)
                words.append(self.redacted(word))
            elif equals and value and _OPTION_NAME.fullmatch(name) and is_secret_name(name):
                self._values.add(value)
                words.append(f"{name}={self.redacted(value)}")
            else:
                words.append(self._inside(word))
            is_next = not equals and word.startswith("-") and is_secret_name(word.lstrip("-"))
        return words

    def _inside(self, word: str) -> str:
        word = self._without_formed(word, _formed(word))
        for name, value in _NAMED_INSIDE.findall(word):
            if is_secret_name(name[:-1].lstrip("-")):
                self._values.add(value)
                word = word.replace(name + value, name + self.redacted(value))
        return self.text(word)

    def _without_formed(self, text: str, formed: set[str]) -> str:
        """Takes in secrets that a text has by their form, and returns it without them."""
        self._values |= formed
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
            data = self._without_formed(text, formed).encode("utf-8", "surrogateescape")
        for value in self._long():
            raw = value.encode("utf-8", "surrogateescape")
            if raw in data:
                data = data.replace(raw, self.redacted(value).encode())
        return data

    def _long(self) -> list[str]:
        return sorted((value for value in self._values if len(value) >= _IN_TEXT_MIN), key=len, reverse=True)


def _formed(text: str) -> set[str]:
    """Returns what is a secret by its form: tokens, passwords and keys in addresses."""
    passwords = (password for _, password in _IN_ADDRESS.findall(text))
    found = {*_SECRET_VALUE.findall(text), *passwords, *_KEY_IN_ADDRESS.findall(text)}
    return {value for value in found if not value.startswith(REDACTED)}


def is_secret_name(name: str) -> bool:
    """Returns True if an option or a variable of this name has a secret as its value."""
    return _SECRET_NAME.search(name) is not None and _HARMLESS_NAME.search(name) is None
