"""What options and arguments mean: versions, paths, authors, limits, and what a shell proposes for them."""
