"""What to do where journals cannot be read."""

from __future__ import annotations

from vfs.errors import Advice, Hint

RECOVER_HINT = Hint(Advice.RECOVER)
NEWER_HINT = "Use a program at least as new as the one that wrote it."
