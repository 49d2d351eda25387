"""The line: one cell from what was asked to its record."""
