"""ONE WORKING LAYER, wherever it is open: messages to the daemon that has it, and the same services without one."""
