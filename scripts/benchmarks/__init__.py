"""Measurements: seeded data, repeated workloads, medians; every figure beside ext4 and the binding's own floor."""
