"""Manual pages and the command reference, written from the parser."""
