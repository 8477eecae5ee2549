"""What differs inside files: one module for each kind of file; none reads more than its limit."""
