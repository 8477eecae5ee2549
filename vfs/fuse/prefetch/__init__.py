"""Prefetch: which files are read ahead, and the worker processes that decompress them."""
