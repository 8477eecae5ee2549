"""Compaction of a working layer's journals: when it pays, how it is done, and what it writes."""
