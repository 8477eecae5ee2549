"""WHERE named bytes live: one small protocol and what keeps it; imports nothing of the package but `errors`."""
