"""Refs: branches, tags and version numbers, and the operation log that they are read from."""
