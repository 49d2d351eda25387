"""A run on a fleet whose boards only pretend."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fake_records import record

from bench.errors import BoardLost, CellFailed, Unavailable, Unsupported
from bench.line.cell import BOARD_LOST
from bench.line.fleet.run import Arranged, run_fleet
from bench.line.plan import Request, make_plan
from bench.line.run import Surroundings
from bench.line.stages import Stages
from bench.reach.local import Local
from bench.records import Climate, Launch
from bench.store import Leases, Store
from bench.types import Status

FLEET = "".join(f'[boards.{name}]\nsku = "orin"\ntarget = "jetson"\nhost = "{name}.lab"\n' for name in ("a", "b", "c"))
SUITE = """
name = "two"
data = "digits"
models = ["lenet300_100(width=0.1)", "lenet300_100(width=0.2)"]
[recipes]
half = "prune(amount=0.5)"
int8 = "dynamic_int8"
"""
LAUNCH = Launch(samples_ns=(1, 2), climate=(Climate(moment="after timing", at_ns=1, celsius={"cpu": 61.5}),))


class Lab:
    """Boards that pretend. `broken`: board -> what its check finds. `cell`: what a cell does on a board, may raise."""

    def __init__(self, folder, plans):
        self.folder, self.store, self.plans = folder, Store.open(folder / "pressbench.db"), plans
        self.leases = Leases(store=self.store)
        self.broken: dict[str, Exception | str] = {}
        self.measured: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.heard = lambda line: None
        self.cell = lambda board, cell: None

    def say(self, line):
        self.said.append(line)
        self.heard(line)

    def around(self):
        def refuse(*_given, **_named):
            raise Unsupported("nothing is made here")

        return Surroundings(
            store=self.store,
            cache=self.folder / "cache",
            folder=self.folder,
            progress=lambda what, share: None,
            on_cell=lambda record, done, total: self.said.append(f"{done}/{total}"),
            run_cell=self.run_cell,
            open_reach=lambda target, device: Local(),
            stages=Stages(compress=refuse, run=self.work),
        )

    def work(self, cell, board):
        self.cell(board, cell)

    def run_cell(self, cell, state):
        board = cell.conditions.device
        self.measured.append((board, cell.model.name, cell.recipe.name))
        named = {"model": cell.model.name, "recipe": cell.recipe.name, "baseline_key": cell.baseline_key}
        named["backend"] = cell.backend.title  # by it a resumed run knows what is stored
        found = replace(record(state.run_id, key=cell.key, **named), conditions=cell.conditions, device="Orin")
        try:
            state.setting.stages.run(cell, board)
        except (CellFailed, Unavailable) as error:
            lost = {BOARD_LOST: True} if isinstance(error, BoardLost) else {}
            return replace(found, status=Status.FAILED, reasons=(str(error),), facts=lost, launches=())
        return replace(found, launches=(LAUNCH,))

    def check(self, target, _reach):
        trouble = self.broken.get(target.host.partition(".")[0], "")
        if isinstance(trouble, Exception):
            raise trouble
        return trouble

    def run(self, *, each=False, earlier=None, **more):
        arranged = Arranged(find_trouble=self.check, say=self.say, leases=self.leases, poll_s=0.01, **more)
        return run_fleet(self.plans[each], self.around(), arranged, earlier=earlier)

    def places(self):
        """(model, recipe) -> on how many boards it is stored."""
        return Counter((one.model, one.recipe) for one in self.store.records())


def plan_fleet(folder, fleet, *, each=False):
    """The plan of a run on all boards of a fleet file with this text."""
    (folder / "fleet.toml").write_text(fleet)
    (folder / "two.toml").write_text(SUITE)
    asked = {"target": "jetson", "suite": str(folder / "two.toml"), "backends": ("ort-cpu",)}
    request = Request(**asked, sku="orin", fleet=str(folder / "fleet.toml"), each=each)
    return make_plan(request, folder / "cache")
