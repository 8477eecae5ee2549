"""What changed inside a file, in the words of its kind: one module for each kind, none reads more than its limit."""
