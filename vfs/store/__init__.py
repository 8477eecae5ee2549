"""HOW objects are kept: packs, the index, trees, refs, the operation log; imports `model`, `backend`, `errors`."""
