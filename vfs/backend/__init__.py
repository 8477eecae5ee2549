"""Where named bytes live: the storage protocol and its implementations; imports nothing of the package but `errors`."""
