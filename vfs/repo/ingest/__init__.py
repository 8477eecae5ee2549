"""`import`: a directory walked, read, chunked and stored as a version."""
