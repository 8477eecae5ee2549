"""WHAT DIFFERS INSIDE FILES: one module for each kind of file, none reads more than its limit."""
