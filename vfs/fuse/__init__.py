"""What the kernel sees: the only package that imports `pyfuse3` and `trio`; imports `control` and the layers below."""

from __future__ import annotations

from vfs.native.session import load

NATIVE = load()
"""The native session layer, None without it. It has to be loaded before the binding, which no other package imports."""
