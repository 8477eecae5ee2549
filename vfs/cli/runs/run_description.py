"""What `vfs run` writes into a record before the program starts: the command, its code, its environment."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from vfs.errors import InvalidInput
from vfs.model.run_record import METRICS_MAX, WORDS_CHARACTERS_MAX, WORDS_MAX, Code, Environment, RunRecord, cut_text
from vfs.repo.runs.environment import code_of, environment_of
from vfs.repo.runs.parameters import PARAMS_BYTES_MAX, options_of, read_params
from vfs.repo.runs.records import PACKAGES, PATCH
from vfs.repo.runs.secrets import Secrets

_PARAMS_FILE = "params.yaml"


def described_run(
    command: Sequence[str],
    cwd: str,
    run_id: str,
    secrets: Secrets,
    *,
    params: Mapping[str, str],
    is_private: bool,
) -> tuple[RunRecord, dict[bytes, bytes]]:
    """Returns a record as far as it is known before the start, and its files.

    A private one has no arguments, directory, host, user, patch and packages.
    """
    words = secrets.words(command)
    code, patch, notes = code_of(command, cwd, os.environ)
    environment, packages = environment_of(command, os.environ)
    found = _params(cwd, words, params, secrets, notes)
    patch = secrets.data(patch)
    # What was found last may stand in what was read before.
    words = [secrets.text(word) for word in words]
    kept = _fitting(words)
    if len(kept) < len(words):
        notes.append(f"the command has {len(words)} words; the first {len(kept)} are here")
    record = RunRecord(
        id=run_id,
        number=1,
        command=tuple(kept),
        cwd=cut_text(secrets.text(cwd)),
        user=_user(),
        host=socket.gethostname(),
        start_ns=time.time_ns(),
        is_private=is_private,
        code=msgspec.structs.replace(
            code,
            directory=secrets.text(code.directory),
            branch=secrets.text(code.branch),
            remote=secrets.words([code.remote])[0],
            changed=tuple(map(secrets.text, code.changed)),
        ),
        environment=msgspec.structs.replace(
            environment,
            executable=secrets.text(environment.executable),
            variables={name: secrets.text(value) for name, value in environment.variables.items()},
        ),
        params={secrets.text(name): secrets.text(value) for name, value in found.items()},
        notes=tuple(map(secrets.text, notes)),
    )
    if is_private:
        return _private(record), {}
    files = {PACKAGES: packages} if packages else {}
    return record, files | ({PATCH: patch} if patch else {})


def _fitting(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    room = WORDS_CHARACTERS_MAX
    for word in words[:WORDS_MAX]:
        room -= len(word)
        if room < 0:
            break
        kept.append(word)
    return kept


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return str(os.getuid())


def _params(
    cwd: str, words: Sequence[str], given: Mapping[str, str], secrets: Secrets, notes: list[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        with suppress(FileNotFoundError), open(os.path.join(cwd, _PARAMS_FILE), "rb") as file:
            found = read_params(file.read(PARAMS_BYTES_MAX + 1))
    except InvalidInput as error:
        notes.append(f"{_PARAMS_FILE} is not in the parameters: {error.message}")
    except OSError as error:
        notes.append(f"{_PARAMS_FILE} cannot be read: {error.strerror}")
    found |= options_of(words) | dict(given)
    kept = dict(list(found.items())[-METRICS_MAX:])
    return {name: secrets.words([f"{name}={value}"])[0].partition("=")[2] for name, value in kept.items()}


def _private(record: RunRecord) -> RunRecord:
    environment = record.environment
    return msgspec.structs.replace(
        record,
        command=tuple(os.path.basename(word) for word in record.command[:1]),
        cwd="",
        host="",
        user="",
        params={},
        code=Code(commit=record.code.commit),
        environment=Environment(python=environment.python, system=environment.system),
    )
