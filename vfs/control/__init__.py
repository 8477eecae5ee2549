"""Operations on a working layer, wherever it is open: messages to its daemon, and the same services without one."""
