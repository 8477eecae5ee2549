"""What a shell proposes for a word of a command line: click finds the argument, this module its values.

A proposal comes from the repository that the command would use. Nothing is proposed, and nothing is printed, where that
does not open or does not respond.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from vfs.errors import VfsError
from vfs.model.layout import LATEST

if TYPE_CHECKING:
    from vfs.cli.command import Invocation
    from vfs.cli.opening.open_repository import OpenRepository

_PROPOSED_MAX = 200
"""More proposals than a reader looks through; the newest versions come first."""

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line type value
    COMPREPLY=()
    while IFS= read -r line; do
        type=${line%%%%,*} value=${line#*,}
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            path) compopt -o filenames; [[ $value == */ ]] && compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a plain described paths directories response
    local -i ret=1
    local type key descr
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete ${words[1]} 2>/dev/null)}")
    for type key descr in ${response}; do
        case $type in
            dir) _path_files -/ && ret=0 ;;
            file) _path_files -f && ret=0 ;;
            path) if [[ $key == */ ]]; then directories+=("$key"); else paths+=("$key"); fi ;;
            plain) if [[ $descr == _ ]]; then plain+=("$key"); else described+=("$key:$descr"); fi ;;
        esac
    done
    [[ -n $described ]] && _describe -V unsorted described -U && ret=0
    [[ -n $plain ]] && compadd -U -V unsorted -a plain && ret=0
    [[ -n $directories ]] && compadd -U -S '' -V directories -a directories && ret=0
    [[ -n $paths ]] && compadd -U -V files -a paths && ret=0
    return ret
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \\
        COMP_CWORD=(commandline -t | string collect) %(prog_name)s 2>/dev/null)
    for line in $response
        set -l parts (string split -m 1 "," -- $line)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case '*'
                echo $parts[2]
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class _Bash(BashComplete):
    source_template = _BASH

    def source(self) -> str:
        """Returns the script, which says what it needs by itself: the shell that runs it may be another one."""
        return ShellComplete.source(self)


class _Zsh(ZshComplete):
    source_template = _ZSH


class _Fish(FishComplete):
    source_template = _FISH


SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": _Zsh, "fish": _Fish}


def script(shell: str, cli: click.Command) -> str:
    """Returns the script that makes a shell ask this program."""
    return SHELLS[shell](cli, {}, "vfs", "_VFS_COMPLETE").source()


def answer(instruction: str, cli: click.Command, invocation: Invocation) -> str:
    """Returns what a shell's script asks for by the environment, empty where nothing can be proposed."""
    shell, _, what = instruction.partition("_")
    made = SHELLS.get(shell)
    if made is None or what not in ("complete", "source"):
        return ""
    asked = made(cli, {"obj": invocation}, "vfs", "_VFS_COMPLETE")
    if what == "source":
        return asked.source()
    try:
        return asked.complete()
    except (click.ClickException, VfsError, OSError, KeyError, ValueError):
        # The command line is misused so far, or its repository does not open: the shell's user sees no message.
        return ""


def _versions(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.cli.display.version_format import first_line

    for version in islice(_matching_versions(opened, start), _PROPOSED_MAX):
        yield CompletionItem(version.name, help=_one_line(first_line(version.commit.message)))
    if LATEST.startswith(start) and opened.repository.head(opened.branch) is not None:
        yield CompletionItem(LATEST, help="the newest version")
    yield from _tags(opened, start)
    yield from _branches(opened, start)


def _matching_versions(opened: OpenRepository, start: str) -> Iterator[Any]:
    if not start or (start[0] == "v" and (start[1:].isdecimal() or start == "v")):
        yield from (version for version in opened.repository.versions(opened.branch) if version.name.startswith(start))


def _tags(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.tags import list_tags

    yield from (CompletionItem(tag.name, help="tag") for tag in list_tags(opened.repository) if _fits(tag.name, start))


def _branches(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.branches import list_branches

    for branch in list_branches(opened.repository):
        if _fits(branch.name, start):
            yield CompletionItem(branch.name, help="the current branch" if branch.is_current else "branch")


def _remotes(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.transfer.remotes import list_remotes

    found = list_remotes(opened.repository)
    yield from (CompletionItem(name, help="remote") for name, _ in found if _fits(name, start))


def _runs(opened: OpenRepository, start: str) -> Iterator[CompletionItem[str]]:
    from vfs.repo.runs.records import list_runs

    runs = list_runs(opened.repository)
    yield from islice((CompletionItem(run.name) for run in reversed(runs) if _fits(run.name, start)), _PROPOSED_MAX)


def _paths(opened: OpenRepository, start: str, words: Sequence[str]) -> Iterator[CompletionItem[str]]:
    """Yields the names that go on a path: of the version that a word before names, else of the newest one."""
    from vfs.cli.opening.locate import path_in
    from vfs.model.objects import Kind
    from vfs.store.trees.directories import entries, resolve_path

    version = _version_among(opened, words)
    if version is None:
        return
    head, slash, tail = start.rpartition("/")
    above = path_in(opened.place, head or (slash or "."))
    directory = resolve_path(opened.repository.store, version.commit.root, above).entry
    names = (entry for entry in entries(opened.repository.store, directory) if _is_shown(entry.name))
    fitting = (entry for entry in names if _fits(os.fsdecode(entry.name), tail))
    for entry in islice(fitting, _PROPOSED_MAX):
        end = "/" if entry.kind is Kind.DIR else ""
        yield CompletionItem(f"{head}{slash}{os.fsdecode(entry.name)}{end}", type="path")


def _version_among(opened: OpenRepository, words: Sequence[str]) -> Any:
    from vfs.cli.arguments.version_or_path import named

    for word in reversed(words):
        try:
            found = named(opened, word)
        except VfsError:
            continue
        if found is not None:
            return found
    return opened.repository.head(opened.branch)


def _is_shown(name: bytes) -> bool:
    """Returns True for a name that the protocol between a shell and this program can carry, a line each."""
    try:
        return b"\n" not in name and b"\r" not in name and bool(name.decode())
    except UnicodeDecodeError:
        return False


def _one_line(text: str) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:60]


def _fits(name: str, start: str) -> bool:
    return name.startswith(start)


def _words_before(ctx: click.Context) -> list[str]:
    """Returns the words of the command that are not options, as far as they were typed."""
    found: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if isinstance(parameter, click.Argument):
            found += (
                [str(each) for each in value] if isinstance(value, tuple) else [] if value is None else [str(value)]
            )
    return found


def propose(kind: str, ctx: click.Context, start: str) -> list[CompletionItem[str]]:
    """Returns the values of a kind (see `vfs.cli.command.COMPLETED`) that begin with some text."""
    from vfs.cli.command import Invocation
    from vfs.cli.opening.open_repository import open_repository

    if kind in ("file", "dir"):
        return [CompletionItem(start, type=kind)]
    words = _words_before(ctx)
    with open_repository(ctx.ensure_object(Invocation)) as opened:
        if kind == "path" and opened.place.mount is not None and not words:
            # Names in a mount are files, those that are not committed among them.
            return [CompletionItem(start, type="file")]
        if kind == "version-or-path":
            found = [] if "/" in start else list(_versions(opened, start))
            return found + _safely(lambda: _paths(opened, start, words))
        if kind == "path":
            return _safely(lambda: _paths(opened, start, words))
        return list(_SOURCES[kind](opened, start))


def _safely(make: Callable[[], Iterator[CompletionItem[str]]]) -> list[CompletionItem[str]]:
    try:
        return list(make())
    except VfsError:
        # What is typed leads nowhere.
        return []


_SOURCES: dict[str, Callable[[OpenRepository, str], Iterator[CompletionItem[str]]]] = {
    "version": _versions,
    "tag": _tags,
    "branch": _branches,
    "remote": _remotes,
    "run": _runs,
}
