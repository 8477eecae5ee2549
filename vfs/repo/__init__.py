"""WHAT A USER DOES to a repository: one module for each use case; imports everything below it."""
