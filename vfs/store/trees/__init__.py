"""Trees: the ordered maps that directories are, chunk lists that files are, and what reads and writes them."""
