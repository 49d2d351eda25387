"""Tools of this repository: performance figures and the claims of papers. Not shipped."""
