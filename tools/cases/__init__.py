"""Runs the networks and files built after public bug reports, and says which come out right: `make cases`."""
