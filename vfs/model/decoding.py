"""What decoding bytes that anybody may have written can raise, and the limits of numbers that come out of them."""

from __future__ import annotations

from typing import Annotated

import msgspec

UNDECODABLE: tuple[type[Exception], ...] = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that do not say what they should; the last for what is nested without end."""

COUNT_MAX = 2**48 - 1
"""Largest number of a version, an operation, a generation or a record: as many as nobody will make, and far enough from
the ends of the fields that hold them for any arithmetic."""

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Moment = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Nanoseconds since 1970: years 1677 to 2262."""
