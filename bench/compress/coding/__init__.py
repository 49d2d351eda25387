"""The entropy-coded weights file."""
