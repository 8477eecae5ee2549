"""`vfs run --again`: a run is repeated on its version with its code, and what comes of both is compared."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vfs.cli.arguments.run_versions import version_of_source
from vfs.cli.opening.open_repository import OpenRepository
from vfs.cli.runs.recorded_run import Wanted, record_run
from vfs.cli.runs.run_program import Ended
from vfs.cli.terminal.output import warn
from vfs.errors import InvalidInput, NotFound, Unsupported
from vfs.model.ids import CommitId
from vfs.model.objects import Version
from vfs.model.run_record import Output, RunRecord
from vfs.repo.runs.patches import with_secrets_of
from vfs.repo.runs.records import PATCH, STDOUT, RunRef, find_run, load_record, run_file
from vfs.repo.runs.secrets import REDACTED

_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")


@dataclass(frozen=True, slots=True)
class Repeated:
    """A run and its repetition. `verdict` in words; `differing`: what is not the same."""

    old: RunRecord
    new: RunRecord
    ended: Ended
    verdict: str
    differing: list[str]


def repeat_run(opened: OpenRepository, name: str, command: Sequence[str], cwd: str) -> Repeated:
    """Repeats a run; `command` stands for one that the record does not have.

    Raises InvalidInput for a record without a command, NotFound for data or code that is gone, Unsupported.
    """
    run = find_run(opened.repository, name)
    record = load_record(opened.repository, run)
    words = list(command) or list(record.command)
    if not command and (record.is_private or any(REDACTED in word for word in words)):
        raise InvalidInput(
            f"the record of {run.name} has not all of the command: it is private, or a secret was left out",
            hint=f"Name it: `vfs run --again {run.name} -- COMMAND`.",
        )
    version = _version(opened, run, record)
    with tempfile.TemporaryDirectory(prefix="vfs-again-") as scratch, _code(opened, run, record, scratch) as code:
        here = record.cwd or cwd
        if code:
            words = [_moved(word, record.code.directory, code) for word in words]
            here = _moved(here, record.code.directory, code)
        if not os.path.isdir(here):
            raise NotFound(f"the directory of {run.name}, {here}, is gone", hint="Make it, or run the program anew.")
        wanted = Wanted(words, here, version, params=record.params, writes_apart=True, again=run.name)
        again, new, ended = record_run(opened, wanted)
        verdict, differing = _verdict(opened, (run, record), (again, new), here)
    return Repeated(record, new, ended, verdict, differing)


def _version(opened: OpenRepository, run: RunRef, record: RunRecord) -> Version | None:
    """Returns what the run read: its version, or the snapshot of the working layer. Raises NotFound."""
    for source in record.sources:
        if source.known == "snapshot":
            parents = opened.repository.store.get_commit(run.commit_id).parents
            commit_id = CommitId(parents[0])
            return Version(commit_id, opened.repository.store.get_commit(commit_id))
        if source.known == "pinned" or (source.known == "working" and not record.pinned):
            version = version_of_source(opened, run, source)
            if version is None and source.commit:
                raise NotFound(f"the version that {run.name} read is gone", hint="It was forgotten or purged.")
            return version
    return None


@contextmanager
def _code(opened: OpenRepository, run: RunRef, record: RunRecord, scratch: str) -> Iterator[str]:
    """Yields a work tree with the code of a run, empty where the record has none. Raises NotFound, Unsupported."""
    code = record.code
    if not code.commit:
        yield ""
        return
    if not os.path.isdir(code.directory):
        raise NotFound(f"the code of {run.name} is gone from {code.directory}", hint="Clone it there again.")
    tree = os.path.join(scratch, "code")
    _git(code.directory, "worktree", "add", "--detach", "--quiet", tree, code.commit)
    try:
        patch = run_file(opened.repository, run, PATCH)
        if code.changed and patch is None:
            raise Unsupported(f"the changes of the code were too large to keep with {run.name}")
        if patch:
            patch = with_secrets_of(Path(tree), patch)
            if REDACTED.encode() in patch:
                warn(f"a secret in the code's changes is not in the record of {run.name}: that line is another one")
            _git(tree, "apply", "--binary", "--whitespace=nowarn", "-", data=patch)
        yield tree
    finally:
        _git(code.directory, "worktree", "remove", "--force", tree)


def _git(directory: str, *words: str, data: bytes = b"") -> None:
    done = subprocess.run([*_GIT, *words], cwd=directory, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unsupported(f"git {words[0]} failed: {reason[-1] if reason else done.returncode}")


def _moved(word: str, old: str, new: str) -> str:
    """Returns a word in which the path of the code leads into another directory."""
    if word == old or word.startswith(old + "/"):
        return new + word[len(old) :]
    return word


def _verdict(
    opened: OpenRepository, old: tuple[RunRef, RunRecord], new: tuple[RunRef, RunRecord], cwd: str
) -> tuple[str, list[str]]:
    first, second = old[1], new[1]
    made = {_place(output, cwd): output for output in second.outputs}
    expected = {_place(output, first.cwd): output for output in first.outputs if not output.removed}
    differing = [
        f"{path}: {'other content' if path in made else 'not written'}"
        for path, output in expected.items()
        if path not in made or made[path].content != output.content
    ]
    if first.exit_status != second.exit_status:
        differing.append(f"exit status {first.exit_status} and {second.exit_status}")
    same_metrics = first.metrics == second.metrics
    if not same_metrics:
        for name in sorted({*first.metrics, *second.metrics}):
            values = first.metrics.get(name), second.metrics.get(name)
            differing += [f"{name}: {values[0]} and {values[1]}"] if values[0] != values[1] else []
    if not differing and not expected and not first.metrics:
        outputs = [run_file(opened.repository, run, STDOUT) for run, _ in (old, new)]
        if outputs[0] != outputs[1]:
            return "the output differs, and there is nothing else to compare", ["standard output"]
        return "same output", []
    if not differing:
        return "reproduced bit for bit" if expected else "same metrics", []
    if same_metrics and first.metrics and first.exit_status == second.exit_status:
        return "same metrics; the files differ", differing
    return "differs", differing


def _place(output: Output, cwd: str) -> str:
    """Returns where an output is, so that those of two directories can be compared."""
    if output.place == "mount":
        return output.path
    return os.path.relpath(output.path, cwd) if output.path.startswith(cwd + "/") else output.path
