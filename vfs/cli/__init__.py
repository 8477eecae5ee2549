"""WHAT A PERSON TYPES: the parser, the output and one module for each command; the only reader of the environment."""
