"""How far a branch and that of a remote are apart, as a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vfs.formats.quantities import human_count

if TYPE_CHECKING:
    from vfs.repo.branches import Tracked


def apart_text(there: Tracked) -> str:
    """Returns which versions a remote's branch lacks, and which ones are not in the branch here."""
    if not there.ahead and not there.behind:
        return "as here, when it was last seen"
    words = [f"lacks {human_count(there.ahead, 'version')}"] if there.ahead else []
    words += [f"has {human_count(there.behind, 'version')} more"] if there.behind else []
    return ", ".join(words)
