"""Uncommitted changes: the working layer, copy-on-write over a version; imports `store` and the layers below it."""
