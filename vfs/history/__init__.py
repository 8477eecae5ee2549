"""Queries over commits and trees: pure algorithms; imports `store` and the layers below it."""
