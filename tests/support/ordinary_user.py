"""Programs of an ordinary user, who mounts by `fusermount3`: started by root, in a mount namespace of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USER = 65534

# The device is open to all, as on most machines. The one capability lets the user read the interpreter, whose directory
# may be root's.
_SCRIPT = f"""
set -e
mount -t tmpfs none /mnt
mknod /mnt/fuse c 10 229 && chmod 666 /mnt/fuse
mount --bind /mnt/fuse /dev/fuse
mount --bind "$1" /mnt
chown -R {USER}:{USER} /mnt
caps=+dac_read_search
exec setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=$caps --ambient-caps=$caps "$2" -c "$3" /mnt $4
"""


def run_as_ordinary_user(directory: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python program, which gets /mnt, where `directory` is, and words without spaces as its arguments."""
    shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh"]
    command = [*shell, str(directory), sys.executable, program, " ".join(words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
