"""One working layer, wherever it is open: one table of services, performed by its daemon or in the calling process."""
