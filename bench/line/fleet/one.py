"""One board of a fleet for a command that measures everything on one: leased, checked, and given back in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bench.config.fleet import Board
from bench.config.target import Target
from bench.errors import BoardBusy, CellFailed, Unavailable
from bench.line.fleet.heart import Heart
from bench.line.fleet.places import Places
from bench.line.fleet.run import Arranged
from bench.reach.base import Reach
from bench.reach.open import Reaches
from bench.store import Lease, Offer


@contextmanager
def hold_one(
    boards: Sequence[Board], run_id: str, arranged: Arranged, open_reach: Callable[[Target, str], Reach]
) -> Iterator[tuple[Board, Lease]]:
    """The first free board that is fit, held until the end. While others have all of them it waits, and says so.

    Raises `Unavailable` where none is fit, with the trouble of each.
    """
    leases, unfit, waits = arranged.leases, dict[str, str](), False
    left = list(boards)
    with Heart(leases) as heart, Places(boards, arranged.say) as places:
        while left:
            offers = [Offer(place=board.place, name=board.name, sku=board.sku) for board in left]
            lease = leases.take(offers, run_id)
            busy = f"other runs have {', '.join(board.name for board in left)}"
            if lease is not None:
                board = next(one for one in left if one.place == lease.place)
                with heart.holding(lease), places.holding(board, left=lease.left) as refused:
                    trouble, busy = _check(board, refused, arranged, open_reach)
                    if not busy:
                        leases.judge(lease, trouble)
                    if not (trouble or busy):
                        yield board, lease
                        return
                left.remove(board)
                if busy:
                    left.append(board)  # the others first
                else:
                    unfit[board.name] = trouble
            if busy:
                if not waits:
                    arranged.say(f"waiting for a board: {busy}")
                waits = True
                time.sleep(arranged.poll_s)
    raise Unavailable("no board can be used: " + "; ".join(f"{name}: {why}" for name, why in unfit.items()))


def _check(
    board: Board, refused: Unavailable | None, arranged: Arranged, open_reach: Callable[[Target, str], Reach]
) -> tuple[str, str]:
    """Why the board cannot be used, and why it must be waited for; "" where nothing is in the way."""
    try:
        if refused is not None:
            raise refused
        with Reaches(lambda _target, _device: open_reach(board.target, "")) as reaches:
            return arranged.find_trouble(board.target, reaches.find(board.target, board.name)), ""
    except BoardBusy as error:
        return "", f"{board.name}: {error}"
    except (Unavailable, CellFailed) as error:
        return str(error), ""
