"""What is versioned: immutable values without I/O; imports nothing of the package but `errors`."""
