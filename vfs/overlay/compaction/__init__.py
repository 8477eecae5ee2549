"""Compaction of a working layer's journals: the compaction policy, the run, the checkpoint that it writes."""
