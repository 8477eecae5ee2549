"""What a user types: parser, output and one module for each command; the only package that reads the environment."""
