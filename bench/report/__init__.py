"""Records -> CSV and HTML."""
