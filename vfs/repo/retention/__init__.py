"""Retention: which versions and objects are kept, and `gc`, `forget` and `purge`, which remove the others."""
