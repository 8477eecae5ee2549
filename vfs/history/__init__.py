"""QUESTIONS about commits and trees: pure algorithms; imports `store` and what is below it."""
