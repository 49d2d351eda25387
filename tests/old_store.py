"""A real database that pressbench at commit 621b4a1 wrote, with the suite, the target and the CSV of that time.

It holds one finished run of three runtimes and one run that Ctrl-C interrupted after two of its three cells. Frozen:
do not regenerate. One thing is not as it was written: the kernel's release lost its local suffix.
"""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden" / "store_621b4a1"
FINISHED = "20261125-135728-a0f428"
INTERRUPTED = "20261125-135903-ab1b2d"


def unpack_old_store(folder: Path) -> Path:
    """Writes the database to `folder`/results/pressbench.db, suite and target beside it. Returns the database."""
    database = folder / "results" / "pressbench.db"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(gzip.decompress((GOLDEN / "store.sql.gz").read_bytes()).decode())
    for name in ("suite.toml", "target.toml"):
        shutil.copy(GOLDEN / name, folder)
    return database
