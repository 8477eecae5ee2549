"""A patch without secrets applies to the files that have them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vfs.repo.runs.patches import with_secrets_of
from vfs.repo.runs.secrets import Secrets

OLD = "import os\npassword = 'letmein'\nhost = 'a'\n\n\n\n\n\n\ntoken = 'letmein22'\nport = 1\n"
NEW = "import os\npassword = 'letmein'\nhost = 'b'\n\n\n\n\n\n\nport = 1\napi_key = 'letmein33'\nx(token='letmein22')\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A git work tree with a file that has secrets."""
    (tmp_path / "train.py").write_text(OLD)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "code")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def git(code: Path, *words: str, data: bytes = b"") -> bytes:
    """Runs git and returns its output."""
    return subprocess.run(["git", *words], cwd=code, input=data, capture_output=True, check=True).stdout


def test_removed_and_kept_lines_get_their_secrets_back(code: Path) -> None:
    (code / "train.py").write_text(NEW)
    patch = Secrets(b"k" * 32).data(git(code, "diff", "--binary"))
    assert b"letmein" not in patch
    git(code, "checkout", "-q", ".")
    git(code, "apply", "-", data=with_secrets_of(code, patch))
    done = (code / "train.py").read_text()
    # What the commit has is known from there; what was new is not known any more.
    lost = [line for line in NEW.splitlines() if line not in done.splitlines()]
    assert lost == ["api_key = 'letmein33'"]
    assert "api_key = '[redacted:" in done


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "missing", "link"])
def test_files_elsewhere_are_not_read(code: Path, name: str) -> None:
    (code.parent / "outside").write_text("password = 'letmein'\n")
    (code / "link").symlink_to(code.parent / "outside")
    mark = Secrets(b"k" * 32).redacted("letmein")
    patch = f"--- a/{name}\n+++ b/{name}\n@@ -1,1 +1,1 @@\n-password = '{mark}'\n+x\n".encode()
    assert with_secrets_of(code, patch) == patch
