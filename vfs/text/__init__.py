"""Text as sequences: matching lines and rows, and the grammars of delimited text and JSON."""
