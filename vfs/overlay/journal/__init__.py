"""The working layer's journal: its records, their framing on disk, summaries, and durable names."""
