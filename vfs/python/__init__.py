"""What Python programs use: `import vfs` exports it, and its names are the only ones with a promise of stability."""
