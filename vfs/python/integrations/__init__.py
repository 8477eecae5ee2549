"""Versions in other people's tools: MLflow, Weights & Biases, Lightning, Transformers. None is needed by this package.

Each module imports its tool, and is imported by those who use it.
"""
