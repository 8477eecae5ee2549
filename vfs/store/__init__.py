"""How objects are stored: packs, index, trees, refs, operation log, caches; imports `model`, `backend`, `errors`."""
