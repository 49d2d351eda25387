"""The command line: arguments, exit codes; the only room that prints or exits.

`main` runs a command of `comparing`, `measuring`, `searching`, `files`, `fleet`, `history` or `surroundings`.
Nothing heavy is imported before a command needs it: `pressbench --help` is instant.
"""

from bench.cli import comparing, files, fleet, history, measuring, searching, surroundings
from bench.cli.app import main, pressbench

__all__ = ["comparing", "files", "fleet", "history", "main", "measuring", "pressbench", "searching", "surroundings"]
