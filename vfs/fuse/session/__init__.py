"""The life of a mount process: mount point, FUSE handshake, daemon, guard process and event loop."""
