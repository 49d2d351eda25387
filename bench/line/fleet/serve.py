"""One board of a run: waits for its turn, is checked, measures share after share, and is let go."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TypeVar

from bench.config.fleet import Board
from bench.config.target import Target
from bench.errors import BoardBusy, BoardLost, CellFailed, LeaseLost, PressbenchError, Unavailable
from bench.line.cell import RunState
from bench.line.fleet.heart import Heart
from bench.line.fleet.pantry import Pantry, bind
from bench.line.fleet.places import Places
from bench.line.fleet.shares import Share, Shares
from bench.line.plan import PlannedCell
from bench.line.run import Surroundings
from bench.reach.base import Reach
from bench.reach.open import Reaches
from bench.records import Record
from bench.store import Lease, Leases, Note, Offer

POLL_S = 5.0
"""How often a board that another run has is asked for again."""
RECHECK_S = 30.0
"""After so long a board that was taken out is checked again; each further time after twice as long."""
Found = TypeVar("Found")
FindTrouble = Callable[[Target, Reach], str]


@dataclass(slots=True, kw_only=True)
class Together:
    """What the boards of one run share.

    `find_trouble`: why a board cannot be used, "" if it can; it may raise what a reach does. `say`: a line to the user.
    `judging`: held over each cell where only one board may measure at a time. `alarms`: board -> why it was taken out,
    also of one that came back; `out`: of those that are out now. `lost`: boards that died while they measured and were
    not checked since. `done_before`: places that an earlier try stored.
    """

    around: Surroundings
    state: RunState
    shares: Shares
    pantry: Pantry
    leases: Leases
    heart: Heart
    places: Places
    find_trouble: FindTrouble
    say: Callable[[str], None]
    judging: AbstractContextManager[object]
    poll_s: float = POLL_S
    recheck_s: float = RECHECK_S
    done_before: int = 0
    alarms: dict[str, str] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    telling: Lock = field(default_factory=Lock)

    def tell(self, text: str) -> None:
        """One line at a time."""
        with self.telling:
            self.say(text)


@dataclass(slots=True, kw_only=True)
class Faults:
    """The error that the device side of a cell ended with; None for none."""

    found: PressbenchError | None = None

    def watch(self, work: Callable[..., Found]) -> Callable[..., Found]:
        """The same work, whose errors are noted on their way."""

        def watched(*given: object) -> Found:
            try:
                return work(*given)
            except (Unavailable, CellFailed) as error:
                self.found = error
                raise

        return watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A board while its lease is held."""

    board: Board
    lease: Lease
    reach: Reach
    run: Together
    state: RunState
    faults: Faults


def serve(board: Board, run: Together) -> None:
    """Measures on one board whatever there is for it, until there is nothing more. One that is out is checked again."""
    pause = run.recheck_s
    _serve(board, run)
    while run.shares.come_back(board.name, pause):
        pause *= 2
        _serve(board, run)


def _serve(board: Board, run: Together) -> None:
    """Until there is nothing more or the board is out."""
    offer, waited = Offer(place=board.place, name=board.name, sku=board.sku), False
    while run.shares.wait_for(board.name):
        lease = run.leases.take([offer], run.state.run_id)
        if lease is None:
            busy = f"another run has it ({_find_holder(board, run.leases)})"
        else:
            with run.heart.holding(lease):
                busy = _use(board, lease, run)
        if busy and not waited:
            run.tell(f"waiting for board {board.name}: {busy}")
        waited = bool(busy)
        if busy:
            run.shares.pause(run.poll_s)


def _find_holder(board: Board, leases: Leases) -> str:
    return next((one.run_id for one in leases.boards() if one.place == board.place), "")


def _use(board: Board, lease: Lease, run: Together) -> str:
    """Checks the board and measures on it. Why it must be waited for; "" if it need not."""
    with (
        run.places.holding(board, left=lease.left) as refused,
        Reaches(lambda _target, _device: run.around.open_reach(board.target, "")) as reaches,
    ):
        faults = Faults()
        turn = Turn(
            board=board,
            lease=lease,
            reach=reaches.find(run.state.plan.target, board.name),
            run=run,
            state=_make_state(board, run, reaches, faults),
            faults=faults,
        )
        try:
            trouble = _begin(turn, refused)
        except BoardBusy as error:
            return str(error)
        if not _take_out(turn, trouble):
            _measure_shares(turn)
    return ""


def _make_state(board: Board, run: Together, reaches: Reaches, faults: Faults) -> RunState:
    """The state of one board: its own baselines, the rest is the run's."""
    setting, stages = replace(run.state.setting, reaches=reaches), run.around.stages

    def progress(what: str, fraction: float) -> None:
        with run.telling:
            run.around.progress(f"{board.name}: {what}", fraction)

    watched = replace(stages, run=faults.watch(stages.run), compare=faults.watch(stages.compare))
    reach = reaches.find(run.state.plan.target, board.name)
    return replace(
        run.state,
        setting=replace(setting, progress=progress, stages=watched),
        baselines={},
        make_ready=lambda cell, _state: bind(run.pantry.take(cell), cell, reach),
    )


def _begin(turn: Turn, refused: Unavailable | None) -> str:
    """As `_check`, of a board that labgrid gave, or `refused`. One that died is turned off and on before, once."""
    run, name = turn.run, turn.board.name
    if isinstance(refused, BoardBusy):
        raise refused
    if refused is not None:
        return str(refused)
    if name in run.lost:
        run.lost.discard(name)
        run.places.cycle(turn.board)
    return _check(turn)


def _check(turn: Turn) -> str:
    """Why the board cannot be used, "" if it can. Raises `BoardBusy`."""
    try:
        return turn.run.find_trouble(turn.board.target, turn.reach)
    except BoardBusy:
        raise
    except (Unavailable, CellFailed) as error:
        return str(error)


def _take_out(turn: Turn, trouble: str) -> bool:
    """Keeps what a check found; a board with a trouble is out of this run, with an alarm. Whether it is."""
    run, name = turn.run, turn.board.name
    run.leases.judge(turn.lease, trouble)
    if trouble:
        if run.out.get(name) != trouble:
            run.tell(f"board {name} was taken out: {trouble}")
        run.alarms[name] = run.out[name] = trouble
        run.shares.leave(name)
    elif run.out.pop(name, ""):
        run.tell(f"board {name} is back")
    return bool(trouble)


def _measure_shares(turn: Turn) -> None:
    """Share after share, while the board and its lease last."""
    shares, name = turn.run.shares, turn.board.name
    while share := shares.take(name):
        try:
            goes_on = _measure_share(share, turn)
        finally:
            shares.put(share)
        if not goes_on:
            return


def _measure_share(share: Share, turn: Turn) -> bool:
    """Measures what is left of a share; whether the board goes on.

    What was measured is stored, and what comes next noted, in one transaction: of a thousand boards, each counts.
    """
    cells = share.on(turn.board.name)
    words = [f"{cell.model.name} / {cell.recipe.name} on {cell.backend.title}" for _, cell in cells]
    turn.run.leases.note(turn.lease, Note(doing=words[0]))
    nexts = [*words[1:], ""]
    return all(_measure(share, place, cell, after, turn) for (place, cell), after in zip(cells, nexts, strict=True))


def _measure(share: Share, place: int, cell: PlannedCell, after: str, turn: Turn) -> bool:
    """Measures and stores one cell; whether the board goes on. A cell that the board is to blame for is not stored.
    `after`: the board's next one, in words."""
    run = turn.run
    if run.shares.stopped or run.heart.lost(turn.lease):
        return False
    turn.faults.found = None
    with run.judging:
        record = run.around.run_cell(cell, turn.state)
    if _is_to_blame(turn):
        _count_loss(share, place, cell, turn)
        return False
    record = replace(record, device=name_device(turn.board.name, record.device))
    done = run.done_before + run.shares.done + (place in share.left)
    note = Note(doing=after, hottest_c=find_heat(record), done=done)
    try:
        run.around.store.add(record, turn.lease, note)
    except LeaseLost as error:
        run.tell(f"board {turn.board.name}: {error}: {cell.model.name} / {cell.recipe.name} is measured again")
        return False
    run.shares.finish(share, place)
    with run.telling:
        run.around.on_cell(record, run.shares.done, run.shares.total)
    return True


def _is_to_blame(turn: Turn) -> bool:
    """Whether the last cell ended as it did because of the board, which is then out, or another's."""
    fault = turn.faults.found
    if fault is None or isinstance(fault, BoardBusy):
        return fault is not None
    if isinstance(fault, BoardLost):
        turn.run.lost.add(turn.board.name)
    try:
        trouble = str(fault) if isinstance(fault, BoardLost) else _check(turn)
    except BoardBusy:
        return True
    return bool(trouble) and _take_out(turn, trouble)


def _count_loss(share: Share, place: int, cell: PlannedCell, turn: Turn) -> None:
    """Notes where the board was lost, and says it where that sets the cell aside. A board that another has is not ours."""
    run = turn.run
    if not isinstance(turn.faults.found, BoardLost) or run.heart.lost(turn.lease):
        return
    if run.shares.lose(share, place, turn.board.name):
        boards = " and ".join(sorted(share.lost[place]))
        said = f"{cell.model.name} / {cell.recipe.name} is left out: boards {boards} were lost while they measured it"
        run.tell(f"{said}; --resume tries it again")


def name_device(board: str, device: str) -> str:
    """The board in the column `device`, with what it says it is: boards of one model stay apart in every table."""
    return board if device in ("", board) else f"{board} ({device})"


def find_heat(record: Record) -> float | None:
    """Degrees of the hottest zone when the cell ended; None where the board shows none."""
    climates = [climate for launch in record.launches for climate in launch.climate]
    return climates[-1].hottest_c if climates else None
