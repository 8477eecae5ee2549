"""`fsck`: packs, nodes, versions and the working layer checked, and damage located by version and path."""
