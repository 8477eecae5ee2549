"""CHANGES not yet committed: copy-on-write over a version; imports `store` and what is below it."""
