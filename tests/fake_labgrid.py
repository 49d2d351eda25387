"""A `labgrid-client` that keeps its places in a folder: what it says and how it ends is as labgrid 26.0.1 does."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPT = r"""
import json, os, sys
from pathlib import Path

folder = Path(__file__).resolve().parent
_, x, coordinator, p, asked, *words = sys.argv
assert (x, p) == ("-x", "-p")
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([coordinator, asked, *words]) + "\n")


def end(text):
    sys.exit(f"labgrid-client: Error: {text}")


if (folder / "down").exists():
    sys.exit("Server error: Error: Could not connect to coordinator")
me = os.environ["LG_HOSTNAME"] + "/" + os.environ["LG_USERNAME"]
found = sorted(path.name for path in (folder / "places").iterdir() if asked in path.name)
if not found:
    end(f"place pattern {asked} matches nothing")
place = folder / "places" / (asked if asked in found else found[0])
holder = place.read_text()
match words:
    case ["acquire"]:
        if holder == me:
            end(f"You have already acquired place {place.name}.")
        if holder:
            end(f"Place {place.name} is already acquired by {holder}. To work simultaneously, ...")
        place.write_text(me)
        print(f"acquired place {place.name}")
    case ["release-from", user]:
        if not holder:
            end(f"place {place.name} is not acquired")
        if holder == user:
            place.write_text("")
        print(f"{user} has released place {place.name}")
    case ["power", "cycle"]:
        if holder != me:
            end(f"place {place.name} is not acquired by your user")
        if not (folder / "power").exists():
            end("target has no compatible resource available")
    case _:
        sys.exit(2)
"""


@dataclass(frozen=True)
class Labgrid:
    """Its folder, which has the program; put it on PATH."""

    folder: Path

    def holder(self, place):
        """Who has it, "" where it is free."""
        return (self.folder / "places" / place).read_text()

    def give(self, place, holder):
        """Adds a place, or changes who has it."""
        (self.folder / "places" / place).write_text(holder)

    def switch(self, name, on):
        """`down`: its coordinator does not answer. `power`: the places have a power driver."""
        (self.folder / name).touch() if on else (self.folder / name).unlink()

    def calls(self):
        """What the program was asked for: place and command."""
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [" ".join(json.loads(line)[1:]) for line in lines]


def install(folder: Path, *places: str) -> Labgrid:
    """The program, with free places."""
    (folder / "places").mkdir(parents=True)
    program = folder / "labgrid-client"
    program.write_text(f"#!{sys.executable} -IS\n{SCRIPT}")
    program.chmod(0o755)
    made = Labgrid(folder)
    for place in places:
        made.give(place, "")
    return made
