"""The working layer's journal: its records, their framing on disk, checkpoints, and durable names."""
