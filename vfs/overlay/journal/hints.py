"""What to do where journals cannot be read."""

RECOVER_HINT = "`vfs recover` takes all that is whole, and keeps the damaged files beside the others."
NEWER_HINT = "Use a program at least as new as the one that wrote it."
