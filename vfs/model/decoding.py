"""Decoding untrusted bytes: the errors that it can raise, and the limits of decoded numbers."""

from __future__ import annotations

from typing import Annotated

import msgspec

UNDECODABLE: tuple[type[Exception], ...] = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for invalid bytes; the last for endless nesting."""

COUNT_MAX = 2**48 - 1
"""Largest number of a version, an operation, a generation or a record: more than any repository has, and far enough
from the ends of the fields that hold them for any arithmetic."""

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Moment = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Nanoseconds since 1970: years 1677 to 2262."""
