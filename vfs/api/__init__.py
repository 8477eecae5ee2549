"""What programs read: the JSON documents of versions, entries, changes and operations."""
