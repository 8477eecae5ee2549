"""The data model: immutable values without I/O; imports nothing of the package but `errors`."""
