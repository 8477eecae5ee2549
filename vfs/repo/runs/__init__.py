"""Records of runs: what a program read and wrote, kept as commits on refs of their own."""
