"""What a run is executed with: the code's git commit and patch, Python and its packages, GPUs, allowed variables.

All is read, nothing is executed but git, whose configuration in the work tree can start no program here.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vfs.model.run_record import LIST_MAX, Code, Environment, cut_text
from vfs.repo.runs.secrets import is_secret_name

PATCH_BYTES_MAX = 16 << 20
_UNTRACKED_BYTES_MAX = 1 << 20
_UNTRACKED_MAX = 1000
_GIT_TIMEOUT_S = 30.0
_ALLOWED = re.compile(
    r"(CUDA_VISIBLE_DEVICES|CUBLAS_WORKSPACE_CONFIG|PYTHONHASHSEED|PYTHONPATH|LD_LIBRARY_PATH|VIRTUAL_ENV|"
    r"CONDA_DEFAULT_ENV|CONDA_PREFIX|LANG|LC_ALL|TZ|SEED|RANK|LOCAL_RANK|WORLD_SIZE|MASTER_ADDR|"
    r"HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|\w*_NUM_THREADS|"
    r"TF_(CPP|ENABLE|XLA|GPU|FORCE|CUDNN|DETERMINISTIC|NUM|USE)_\w+|"
    r"(OMP|MKL|NCCL|JAX|XLA|TORCH|PYTORCH|SLURM|OPENBLAS|KMP)_\w+)"
)
_STAGED = ("index",)
"""git's own index, in its directory."""
_GIT = (
    "git",
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"),
    *("-c", "core.pager=cat", "-c", "diff.external=", "-c", "core.untrackedCache=false"),
)


def code_of(command: Sequence[str], cwd: str, variables: Mapping[str, str]) -> tuple[Code, bytes, list[str]]:
    """Returns the code of a command, its patch, and notes: of the git work tree of its script, else of `cwd`."""
    directory = code_directory(command, cwd)
    git = _Git(variables)
    if shutil.which("git") is None:
        return Code(), b"", ["git is not installed: the code is not in this record"]
    top = git(directory, "rev-parse", "--show-toplevel")
    if top is None:
        return Code(), b"", []
    root = os.fsdecode(top.rstrip(b"\n"))
    head = _text(git(root, "log", "-1", "--format=%H", "--no-show-signature"))
    branch = _text(git(root, "branch", "--show-current"))
    remote = _text(git(root, "config", "--get", "remote.origin.url"))
    notes: list[str] = []
    status = git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    if status is None:
        notes.append("git did not answer in time: changes of the code are not in this record")
    entries = [entry for entry in (status or b"").split(b"\0") if len(entry) > 3]
    patch = _patch(git, root, head, entries, notes) if entries else b""
    changed = tuple(entry[3:].decode("utf-8", "surrogateescape") for entry in entries[:LIST_MAX])
    return Code(cut_text(root), head, cut_text(branch), cut_text(remote), changed, bool(patch)), patch, notes


def code_directory(command: Sequence[str], cwd: str) -> str:
    """Returns the directory of the first argument that is a script, else the current directory."""
    for word in command[:8]:
        path = os.path.join(cwd, word)
        if word.endswith((".py", ".sh", ".R", ".jl", ".pl", ".ipynb")) and os.path.isfile(path):
            return os.path.dirname(os.path.realpath(path))
    return cwd


def _patch(git: _Git, root: str, head: str, entries: Sequence[bytes], notes: list[str]) -> bytes:
    """Returns what differs from the commit, new files of a reasonable size too, as a patch for `git apply`."""
    new = [os.fsdecode(entry[3:]) for entry in entries if entry.startswith(b"??")]
    small = [path for path in new if _is_small(os.path.join(root, path))][:_UNTRACKED_MAX]
    if len(small) < len(new):
        notes.append(f"{len(new) - len(small)} untracked files are large or many: the patch is without them")
    with tempfile.TemporaryDirectory(prefix="vfs-run-") as scratch:
        # An index of its own: the user's stays as it is.
        index = os.path.join(scratch, "changes")
        own = _text(git(root, "rev-parse", "--git-dir"))
        if own and os.path.exists(os.path.join(root, own, *_STAGED)):
            shutil.copyfile(os.path.join(root, own, *_STAGED), index)
        if small:
            given = ("--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
            git(root, "add", *given, index=index, words=small)
        base = [head] if head else []
        patch = git(root, "diff", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", *base, index=index)
    if patch is None or len(patch) > PATCH_BYTES_MAX:
        notes.append("the changes of the code are too large for a patch; their names are here")
        return b""
    return patch


def _is_small(path: str) -> bool:
    try:
        return os.path.isfile(path) and os.path.getsize(path) <= _UNTRACKED_BYTES_MAX
    except OSError:
        return False


class _Git:
    """Calls git, with the caller's environment but for what would lead it elsewhere."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {name: value for name, value in variables.items() if not name.startswith("GIT_")}
        self._variables |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}

    def __call__(self, directory: str, *arguments: str, index: str = "", words: Sequence[str] = ()) -> bytes | None:
        """Returns what git prints, None where it fails. `index`: a file to use in place of the work tree's."""
        try:
            done = subprocess.run(
                [*_GIT, *arguments],
                cwd=directory,
                env=self._variables | ({"GIT_INDEX_FILE": index} if index else {}),
                input=b"\0".join(map(os.fsencode, words)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_GIT_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None


def _text(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace").strip()


def environment_of(command: Sequence[str], variables: Mapping[str, str]) -> tuple[Environment, bytes]:
    """Returns the environment of a command, and the packages of its Python as lines `name version`."""
    executable = _python_of(command, variables)
    packages = _packages(executable)
    version = platform.python_version() if _same(executable, sys.executable) else _version_of(executable)
    allowed = {
        name: cut_text(value)
        for name, value in sorted(variables.items())
        if _ALLOWED.fullmatch(name) and not is_secret_name(name)
    }
    found = Environment(
        python=version,
        executable=cut_text(executable),
        system=cut_text(f"{platform.system()} {platform.release()} {platform.machine()}"),
        cpus=len(os.sched_getaffinity(0)),
        gpus=tuple(_gpus()),
        packages=len(packages),
        variables=dict(list(allowed.items())[:500]),
    )
    return found, "".join(f"{line}\n" for line in packages).encode()


def _python_of(command: Sequence[str], variables: Mapping[str, str]) -> str:
    """Returns the Python that a command starts, else the first one on its path."""
    names = [word for word in command[:1] if os.path.basename(word).startswith("python")]
    found = shutil.which(command[0], path=variables.get("PATH")) if command else None
    if not names and found is not None:
        try:
            with open(found, "rb") as file:
                first = file.readline(256)
        except OSError:
            first = b""
        if first.startswith(b"#!") and b"python" in first:
            names = [part for part in os.fsdecode(first[2:]).split() if "python" in part][-1:]
    for name in [*names, "python3", "python"]:
        path = shutil.which(name, path=variables.get("PATH"))
        if path is not None:
            return path
    return ""


def _same(one: str, other: str) -> bool:
    return os.path.abspath(one) == os.path.abspath(other) if one else False


def _version_of(executable: str) -> str:
    name = os.path.basename(os.path.realpath(executable)) if executable else ""
    return name.removeprefix("python") if name.startswith("python") else ""


def _packages(executable: str) -> list[str]:
    """Returns the installed packages of a Python, by the names of their directories."""
    if not executable:
        return []
    prefixes = [Path(executable).parent.parent, Path(os.path.realpath(executable)).parent.parent]
    if not (prefixes[0] / "pyvenv.cfg").is_file():
        prefixes += [Path("/usr/local"), Path("/usr")]
    else:
        prefixes = prefixes[:1]
    found = set()
    for prefix in dict.fromkeys(prefixes):
        for pattern in ("lib/python3*/site-packages", "lib/python3*/dist-packages", "lib64/python3*/site-packages"):
            for directory in prefix.glob(pattern):
                try:
                    names = os.listdir(directory)
                except OSError:
                    continue
                for name in names:
                    if name.endswith((".dist-info", ".egg-info")) and "-" in name:
                        package, _, version = name.rsplit(".", 1)[0].partition("-")
                        found.add(f"{package.replace('_', '-').lower()} {version.split('-py')[0]}")
    return sorted(found)[:LIST_MAX]


def _gpus() -> list[str]:
    """Returns the models of the GPUs, as their drivers list them."""
    models = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        models += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return models[:64]
