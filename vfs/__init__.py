"""Versioned data as directories: a FUSE filesystem whose every version is a path."""

__version__ = "0.1.0"
