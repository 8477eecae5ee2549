"""One module for each command; `vfs/cli/main.py` imports them when they are asked for."""
