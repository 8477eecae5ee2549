"""What `fsck` checks: packs, nodes, versions, the log, the working layers; and the paths that damage affects."""
