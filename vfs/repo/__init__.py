"""What a user does to a repository: one module or package for each use case; imports every layer below it."""
