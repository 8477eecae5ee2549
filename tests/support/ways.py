"""Ways in which a program opens a file: each a shell command that opens `$1`, from the simplest to the most evasive."""

from __future__ import annotations

_OPEN = "import sys; open(sys.argv[1]).read()"
_THREAD = "import sys, threading; t = threading.Thread(target=lambda: open(sys.argv[1]).read()); t.start(); t.join()"
_POOL = """
import sys
from concurrent.futures import {kind} as Pool
def read(path): return len(open(path).read())
if __name__ == "__main__":
    with Pool(2) as pool: list(pool.map(read, [sys.argv[1]]))
"""
_PROCESS = """
import sys, multiprocessing
def read(path): open(path).read()
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    process = context.Process(target=read, args=(sys.argv[1],)); process.start(); process.join()
    assert process.exitcode == 0
"""
_FORK = "import os, sys\nif os.fork() == 0:\n    open(sys.argv[1]).read(); os._exit(0)\nos.wait()"
_DOUBLE_FORK = """
import os, sys
r, w = os.pipe()
if os.fork() == 0:
    {session}
    if os.fork() == 0:
        os.close(r)
        while os.getppid() == int(sys.argv[2]) : pass
        open(sys.argv[1]).read(); os._exit(0)
    os._exit(0)
os.close(w); os.wait(); os.read(r, 1)
"""
_MAPPED = "import mmap, sys; f = open(sys.argv[1]); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[:]"
_REOPENED = "import os, sys; fd = os.open(sys.argv[1], os.O_PATH); open(f'/proc/self/fd/{fd}').read()"
_AT = """
import os, sys
directory, name = os.path.split(sys.argv[1])
os.open(name, os.O_RDONLY, dir_fd=os.open(directory, os.O_PATH))
"""
_SPAWN = "import os, sys; os.waitpid(os.posix_spawn('/bin/cat', ['cat', sys.argv[1]], {}), 0)"
_SENDFILE = "import os, sys; f = open(sys.argv[1]); os.sendfile(os.open('/dev/null', 1), f.fileno(), 0, 10)"
_THREAD_FORK = """
import os, sys, threading
def go():
    if os.fork() == 0:
        open(sys.argv[1]).read(); os._exit(0)
    os.wait()
t = threading.Thread(target=go); t.start(); t.join()
"""
_MANY_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool: list(pool.map(lambda _: open(sys.argv[1]).read(), range(40)))
"""


def _python(code: str) -> str:
    return f'printf \'%s\' "{_quoted(code)}" > "$2.py"; python3 "$2.py" "$1" $$'


def _quoted(code: str) -> str:
    return code.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")


WAYS = {
    "cat": 'cat "$1"',
    "redirection of a shell": 'read -r line < "$1"',
    "python": _python(_OPEN),
    "thread": _python(_THREAD),
    "many threads": _python(_MANY_THREADS),
    "fork": _python(_FORK),
    "fork of a thread": _python(_THREAD_FORK),
    "double fork": _python(_DOUBLE_FORK.format(session="pass")),
    "daemon: setsid and double fork": _python(_DOUBLE_FORK.format(session="os.setsid()")),
    "threads of a pool": _python(_POOL.format(kind="ThreadPoolExecutor")),
    "processes of a pool": _python(_POOL.format(kind="ProcessPoolExecutor")),
    "multiprocessing by fork": _python(_PROCESS.format(method="fork")),
    "multiprocessing by spawn": _python(_PROCESS.format(method="spawn")),
    "multiprocessing by a fork server": _python(_PROCESS.format(method="forkserver")),
    "posix_spawn": _python(_SPAWN),
    "mmap": _python(_MAPPED),
    "O_PATH and /proc": _python(_REOPENED),
    "openat": _python(_AT),
    "sendfile": _python(_SENDFILE),
    "env -i": 'env -i /bin/cat "$1"',
    "setsid": 'setsid -w cat "$1"',
    "nohup": 'nohup cat "$1"',
    "xargs -P": "printf '%s\\n' \"$1\" | xargs -P4 -n1 cat",
    "find -exec": 'find "$1" -exec cat {} +',
    "background": 'cat "$1" & wait',
    "subshells": '(((cat "$1")))',
    "exec": 'exec cat "$1"',
    "tar": 'tar -cf - -C / "${1#/}" | cat',
    "a process-id namespace of its own": 'unshare --pid --fork cat "$1" 2>/dev/null || cat "$1"',
    "a mount namespace of its own": 'unshare --mount cat "$1" 2>/dev/null || cat "$1"',
    "a child that outlives its parent": 'sh -c \'(sleep 0.05; cat "$1"; echo > "$2.done") &\' sh "$1" "$2"; '
    'until [ -e "$2.done" ]; do :; done',
}
"""Names to commands. `$1` is the file to open, `$2` a path of its own for scratch."""
