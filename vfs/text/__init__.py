"""How lines and rows are read and matched: common subsequences, the grammars of delimited text and of JSON."""
