"""What a mount shows of versions: `@` names, version inodes, ranges, file histories, virtual directories."""
