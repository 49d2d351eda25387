"""What goes wrong between here and a board, in words with a remedy."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import asyncssh

from bench.errors import BoardBusy, BoardLost, CellFailed, DiskFull, PressbenchError, Unavailable
from bench.reach.ssh.address import Address
from bench.types import Json

REFUSED = (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied, asyncssh.IllegalUserName)
LOST = (OSError, asyncio.TimeoutError, asyncssh.DisconnectError, asyncssh.ChannelOpenError)
"""Errors after which the link is opened again. `REFUSED` are among them by class and are raised before."""
OLDEST = "3.10"


def explain_connect(  # noqa: PLR0911 - one for each cause
    error: Exception, address: Address, config: Path | None, *, known: bool = False
) -> PressbenchError:
    """Why the first connection fails. `known`: another host key of this board is known."""
    ssh = f"ssh {f'-F {config} ' if config else ''}{address.ssh_arguments()}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        if known:
            name = f"[{address.host}]:{address.port}" if address.port else address.host
            return Unavailable(
                f"{address}: its host key is another than the known one: a new system on the board, or another machine "
                f"in its place. If you know why, remove the old key with `ssh-keygen -R '{name}'`, then `{ssh} true`"
            )
        return Unavailable(
            f"{address}: its host key is unknown. `{ssh} true` shows the fingerprint and asks whether to accept it; on "
            "the board, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows the right one"
        )
    if isinstance(error, asyncssh.PermissionDenied):
        return Unavailable(
            f"{address} lets in none of your keys: `ssh-copy-id {address.ssh_arguments()}` adds yours there, or name "
            "another user (user@host). A key with a passphrase must be in the agent: ssh-add"
        )
    if isinstance(error, socket.gaierror):
        return Unavailable(f"{address}: no machine of that name is known here: check the name, or give its IP address")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return Unavailable(f"{address} does not answer: is it on, and on this network? Try `{ssh} true`")
    if isinstance(error, ConnectionRefusedError):
        return Unavailable(f"{address} refuses connections: no SSH server runs there (sudo systemctl enable --now ssh)")
    said = str(error) or type(error).__name__
    return Unavailable(f"{address} cannot be reached: {said}. Try `{ssh} true`")


def lost_board(address: Address, error: Exception, patience_s: float) -> BoardLost:
    """The error after trying again for `patience_s` seconds in vain."""
    said = str(error) or type(error).__name__
    return BoardLost(
        f"{address} was lost and did not come back within {patience_s:.0f} s ({said}): when it is there again, run with "
        "--resume"
    )


def explain_refusal(values: dict[str, Json], address: Address, python: str, folder: str) -> PressbenchError:
    """What the agent, or the launcher before it, refuses."""
    if "old" in values:
        return Unavailable(
            f"{address}: {python} there is Python {values['old']}, and {OLDEST} or newer is needed: set `python` in the "
            "target file to a newer one (docs/boards.md)"
        )
    text = str(values.get("text", ""))[:300]
    match values.get("refused"):
        case "full":
            return DiskFull(f"disk full: {address}: {folder}: {text}; free space there, or `pressbench targets clean`")
        case "readonly":
            return Unavailable(
                f"{address}: {folder} cannot be written ({text}): set `folder` in the target file to a place that can"
            )
        case "busy":
            return BoardBusy(f"{address} is in use by {text}: one run at a time; wait until it ends")
        case "corrupt":
            return CellFailed(f"{address}: {text}")
    return CellFailed(f"{address}: the agent there failed: {text or values}")


def explain_silence(out: bytes, errors: bytes, code: int | None, address: Address, python: str) -> PressbenchError:
    """Python on the board ended without an answer."""
    said = (errors or out).decode("utf-8", "replace").strip()[-300:] or f"exit code {code}"
    if code in (126, 127):
        return Unavailable(
            f"{address}: there is no {python} ({said}): sudo apt install python3 python3-numpy, or set `python` in the "
            "target file"
        )
    return Unavailable(f"{address}: {python} there did not run ({said}): set `python` in the target file")


def check_numpy(hello: dict[str, Any], address: Address, python: str) -> None:
    """Raises `Unavailable` where the board's Python has no numpy: the worker needs it."""
    if not hello["numpy"]:
        raise Unavailable(
            f"{address}: {python} there has no numpy: on the board, `{python} -m pip install numpy` or "
            "`sudo apt install python3-numpy`"
        )
