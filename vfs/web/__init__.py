"""What a browser shows: the pages of `python -m vfs.web`, read-only, from the documents of vfs.api."""
