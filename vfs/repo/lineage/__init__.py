"""What made a version, a run or a file, and what used it."""
