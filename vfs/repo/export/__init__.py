"""`export`: versions written as plain files."""
