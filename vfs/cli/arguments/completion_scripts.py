"""The scripts that make bash, zsh and fish ask this program what to propose, and its answers in their form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from vfs.errors import VfsError

if TYPE_CHECKING:
    from vfs.cli.command import Invocation

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
