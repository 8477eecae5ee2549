"""What `fsck` looks at: packs, nodes, versions, the log, the working layers; and where damage shows."""
