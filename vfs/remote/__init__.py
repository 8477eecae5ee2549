"""Where a repository is shared: its packs, refs and index in a backend that several machines use."""
