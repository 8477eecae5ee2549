"""Push, fetch, pull and clone: what moves between this repository and a remote."""
