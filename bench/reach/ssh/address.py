"""Who and where a board is: the text of `host` or PRESSBENCH_HOST -> user, host and port."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bench.errors import InvalidInput

VARIABLE = "PRESSBENCH_HOST"
FORM = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63})@)?"
    r"(?:(?P<host>[A-Za-z0-9_][A-Za-z0-9_.\-]{0,252})|\[(?P<v6>[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9_.\-]{1,15})?)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
"""Nothing that a shell, a configuration file or an option parser could read as anything but a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to connect. `user` "" and `port` 0: as the user's ssh configuration says."""

    host: str
    user: str = ""
    port: int = 0

    def __str__(self) -> str:
        """As ssh takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")

    def ssh_arguments(self) -> str:
        """The destination as arguments of the program `ssh`."""
        port = f"-p {self.port} " if self.port else ""
        return port + (f"{self.user}@" if self.user else "") + self.host


def find_address(target: str, host: str, environment: Mapping[str, str]) -> Address:
    """The address that the target's file or PRESSBENCH_HOST gives. `target`: its name, for messages.

    Raises `InvalidInput` where there is none, where both give another, or for what is not a host.
    """
    asked = environment.get(VARIABLE, "").strip()
    if asked and host and asked != host:
        raise InvalidInput(f"target {target}: its file has host = {host!r}, {VARIABLE} is {asked!r}: leave one out")
    if not (asked or host):
        raise InvalidInput(
            f'target {target}: where is the board? Set {VARIABLE}=user@host, or write host = "user@host" in a target '
            "file of your own (docs/boards.md)"
        )
    return parse_address(asked or host, VARIABLE if asked else f"target {target}: key 'host'")


def parse_address(text: str, where: str) -> Address:
    """`user@host:port`, user and port optional; a host of the user's ssh configuration too. Raises `InvalidInput`."""
    found = FORM.fullmatch(text)
    if found is None or int(found["port"] or 22) not in range(1, 65536):
        raise InvalidInput(f"{where}: {text!r} is not user@host or user@host:port (IPv6 in brackets)")
    return Address(host=found["host"] or found["v6"], user=found["user"] or "", port=int(found["port"] or 0))
