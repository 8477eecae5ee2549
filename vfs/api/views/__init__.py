"""What a page shows of a repository: questions that are answered as documents, at a cost that follows what is shown."""
