"""What a command works on: the repository and the working layer, found and opened."""
