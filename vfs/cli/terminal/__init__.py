"""What a terminal shows: lines and colour, columns, a pager, progress bars."""
