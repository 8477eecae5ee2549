"""`vfs import`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from vfs.api.result_documents import imported_document
from vfs.backend.open_files import allow_many_files
from vfs.cli.arguments.author import author, message_from, message_option
from vfs.cli.arguments.exclude_options import exclude_options
from vfs.cli.arguments.version_or_path import path_argument
from vfs.cli.command import (
    CountType,
    DirectoryType,
    Invocation,
    branch_option,
    json_option,
    no_hooks_option,
    repository_option,
    vfs_command,
)
from vfs.cli.display.change_format import counts_text
from vfs.cli.display.version_format import short_id
from vfs.cli.opening.cloud_credentials import use_profile
from vfs.cli.opening.open_repository import OpenRepository, open_repository
from vfs.cli.opening.working_layer import import_as_version
from vfs.cli.terminal.output import echo, echo_err, echo_json, warn
from vfs.cli.terminal.progress import FileBar
from vfs.errors import NothingToDo, Unsupported
from vfs.formats.quantities import human_count, human_size
from vfs.history.diff import count_changed_files
from vfs.model.names import show_path
from vfs.repo.ignore_rules import Excluded
from vfs.repo.import_directory import Imported
from vfs.repo.ingest.large_pages import use_large_pages

if TYPE_CHECKING:
    from vfs.python.source_history import Revision

_SHOWN_MAX = 20
_REVISION_CHARS = 10


@vfs_command(
    "import",
    'vfs --repo repo import images -m "first import"',
    'vfs import /srv/data -m "nightly" --skip-unreadable',
    'vfs import new --into images/2026 -m "one more year"     all else stays as it is',
    'vfs import data -m "clean" --exclude "*.tmp" --exclude cache/',
    'vfs import --from s3://bucket/images -m "from the bucket"',
    "vfs import --from /srv/data.git --revisions v1.0..main     a version for each revision of a git repository",
    "vfs import --from dvc+/srv/data.git --revisions main       and of a DVC repository, with its data",
    interrupted="Nothing was committed. What was stored is found again: run the same import to go on.",
)
@click.argument("directory", metavar="[DIR]", type=DirectoryType(), required=False)
@message_option
@click.option(
    "--into",
    metavar="PATH",
    help="Put the directory at this path of the version, and keep everything else that the version before has.",
)
@click.option(
    "--from",
    "address",
    metavar="URL",
    help="Import what is at an address instead: s3://, hf://, dvc://, zip:// and others of fsspec.",
)
@click.option(
    "--revisions",
    metavar="A..B",
    help="With --from, the address of a git or DVC repository: one version for each revision after A up to B.",
)
@exclude_options
@no_hooks_option
@click.option("--skip-unreadable", is_flag=True, help="Skip what cannot be read, with a warning.")
@click.option("--allow-empty", is_flag=True, help="Commit even if nothing has changed.")
@click.option("-j", "--jobs", type=CountType(min=1), help="Threads that read and compress; else one a processor.")
@json_option
@branch_option
@repository_option
@click.pass_obj
def command(
    invocation: Invocation,
    directory: Path | None,
    message: str | None,
    into: str | None,
    address: str | None,
    revisions: str | None,
    excluded: Excluded,
    no_hooks: bool,
    skip_unreadable: bool,
    allow_empty: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Commit a directory as the next version, without a mount.

    The version is exactly the directory: paths that it lacks are not in the version. With --into it replaces only PATH.
    Files that have the same size, times and inode as in the last import are not read again. Prints the version and its
    id, as commit does.

    Files that `.vfsignore` files in the directory name, written as in .gitignore, are excluded, except files that the
    version before has: they stay versioned.

    What --from names is fetched into a temporary directory (of TMPDIR) first; the version's metadata keep the address,
    without passwords, as `vfs.source`.

    With --revisions each version has the author, time and message of its revision (of merges the first parent counts);
    the metadata keep its id as `vfs.source-revision`. The same command goes on where it was stopped.
    """
    if (directory is None) == (address is None):
        raise click.UsageError("Name a DIR, or an address with --from.")
    if revisions is not None and (address is None or message is not None or into is not None):
        raise click.UsageError("--revisions goes with --from, and takes the messages from there; --into does not.")
    # Each thread has several files open, and the walk directories.
    allow_many_files()
    use_large_pages()
    with open_repository(invocation) as opened, ExitStack() as stack:
        choices = _Choices(opened, excluded, jobs, not no_hooks, skip_unreadable)
        if address is not None and revisions is not None:
            for revision, files, meta in _history(opened, address, revisions, stack):
                made = _Made(revision.message, revision.author, meta, revision.time_ns)
                _echo(opened, files, _import(choices, files, made, allow_empty=True), as_json=as_json)
            return
        made = _Made(message_from(message), author(), {})
        if address is not None:
            directory, meta = _fetched(address, stack)
            made = made._replace(meta=meta)
        assert directory is not None
        place = path_argument(opened, into, []) if into is not None else b""
        done = _import(choices, directory, made, into=place, allow_empty=allow_empty)
        _echo(opened, directory, done, as_json=as_json)


class _Choices(NamedTuple):
    """What holds for every version that a command imports."""

    opened: OpenRepository
    excluded: Excluded
    jobs: int | None
    with_hooks: bool
    skip_unreadable: bool


class _Made(NamedTuple):
    """Who made a version, when (Unix time; None: now), and why."""

    message: str
    author: str
    meta: dict[str, str]
    time_ns: int | None = None


def _import(choices: _Choices, directory: Path, made: _Made, *, into: bytes = b"", allow_empty: bool) -> Imported:
    with FileBar("importing") as progress:
        progress.count(directory)
        return import_as_version(
            choices.opened,
            directory,
            made.message,
            made.author,
            jobs=choices.jobs,
            into=into,
            excluded=choices.excluded,
            with_hooks=choices.with_hooks,
            skip_unreadable=choices.skip_unreadable,
            allow_empty=allow_empty,
            progress=progress,
            meta=made.meta,
            made_ns=made.time_ns,
        )


def _echo(opened: OpenRepository, directory: Path, done: Imported, *, as_json: bool) -> None:
    counts = count_changed_files(opened.repository.store, done.version)
    if as_json:
        echo_json(imported_document(done, counts))
        return
    echo(f"{done.version.name} {short_id(done.version.id)}")
    tally, stored = done.tally, done.statistics
    echo_err(
        f"{human_count(tally.files, 'file')}, {human_size(tally.size_bytes)}; "
        f"read {human_count(tally.files_read, 'file')}, {human_size(tally.read_bytes)}; "
        f"stored {human_size(stored.bytes_stored)}"
    )
    if tally.ignored:
        echo_err(f"Left out by ignore rules: {human_count(tally.ignored, 'name')}")
    echo_err(counts_text(counts))
    _warn_of_skipped(done, directory)


def _history(
    opened: OpenRepository, address: str, wanted: str, stack: ExitStack
) -> Iterator[tuple[Revision, Path, dict[str, str]]]:
    """Yields the revisions that are not there yet, each with its files. Raises NothingToDo for none."""
    with _needing_fsspec():
        from vfs.python.source_history import SourceHistory, left_to_import
    scratch = _scratch(stack)
    history = SourceHistory(address, scratch)
    newest = opened.repository.head(opened.branch)
    left = left_to_import(history.revisions(wanted), history.source, dict(newest.commit.meta) if newest else {})
    if not left:
        raise NothingToDo(f"all revisions {wanted!r} of {history.source} are versions already")
    for number, revision in enumerate(left, 1):
        echo_err(f"Revision {number} of {len(left)}: {revision.id[:_REVISION_CHARS]}")
        with FileBar("fetching") as progress:
            files = history.show(revision, partial(progress, total=None))
        yield revision, files, revision.metadata(history.source)


def _scratch(stack: ExitStack) -> Path:
    """Makes a directory that goes with `stack`."""
    import tempfile  # A directory's import needs none.

    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vfs-import-")))


@contextmanager
def _needing_fsspec() -> Iterator[None]:
    """Raises Unsupported where fsspec is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "fsspec":
            raise
        raise Unsupported(
            "addresses need the Python library fsspec, which is not installed",
            hint="Install it: pip install 'vfs-versions[fsspec]'.",
        ) from None


def _fetched(address: str, stack: ExitStack) -> tuple[Path, dict[str, str]]:
    """Fetches what is at an address into a directory that goes with `stack`; returns it and the metadata."""
    with _needing_fsspec():
        from vfs.python.address_download import fetch
    use_profile()
    directory = _scratch(stack)
    with FileBar("fetching") as progress:
        fetched = fetch(
            address,
            directory,
            lambda files, size: progress(files, size, None),
            endpoint=os.environ.get("AWS_ENDPOINT_URL", ""),
        )
    return directory, fetched.metadata


def _warn_of_skipped(done: Imported, directory: Path) -> None:
    where = show_path(os.fsencode(directory))
    lines = [f"{show_path(path) or where}: skipped: {why}" for path, why in done.skipped]
    lines += [f"{show_path(path)}: skipped: it is this repository" for path in done.excluded]
    lines += [f"{show_path(path)}: went away while it was imported" for path in done.tally.vanished]
    lines += [f"{show_path(path)}: kept changing while it was read" for path in done.tally.unstable]
    for line in lines[:_SHOWN_MAX]:
        warn(line)
    if len(lines) > _SHOWN_MAX:
        warn(f"and {len(lines) - _SHOWN_MAX:,} more; --json lists all")
