"""Runs the command line: `python -m bench.cli`."""

from bench.cli import main

main()
