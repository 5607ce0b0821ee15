"""A rank table held against the processes that a launcher has started."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from porting.backends.group import World
from porting.data.rank_check import read_rank_table
from porting.errors import MismatchError


def check_place(path: Path, world: World, variables: Mapping[str, str]) -> None:
    """Refuse a table that is not that of these ranks: their number, and this rank's server and device.

    variables: of the environment. ASCEND_RT_VISIBLE_DEVICES says which device is the first, second … of this process.
    Raises: FormatError, MismatchError for what is no table; MismatchError that names all that does not fit.
    """
    table = read_rank_table(path)
    problems = []
    if len(table.devices) != world.size:
        problems.append(f"ranks: it has {len(table.devices)}, the launcher started {world.size}")
    if world.rank < len(table.devices):
        mine = table.devices[world.rank]
        if _is_elsewhere(mine.server):
            problems.append(f"rank {world.rank}: is on server {mine.server}, which is not this machine")
        seen = variables.get("ASCEND_RT_VISIBLE_DEVICES", "").replace(" ", "").split(",")
        number = seen[world.local] if world.local < len(seen) and seen[0] else str(world.local)
        if number != str(mine.number):
            problems.append(f"rank {world.rank}: has device {mine.number} there, the launcher gave it {number}")
        there = len(table.servers()[mine.server])
        started = variables.get("LOCAL_WORLD_SIZE", "")
        if started.isdecimal() and int(started) != there:
            problems.append(f"server {mine.server}: has {there} ranks there, the launcher started {started} here")
    if problems:
        raise MismatchError(f"{path}: is not the rank table of this run", problems)


def _is_elsewhere(server: str) -> bool:
    """Whether a server's id is an address that this machine does not have; of a name that is not known."""
    try:
        family = socket.AF_INET6 if ip_address(server).version == 6 else socket.AF_INET
    except ValueError:
        return False
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((server, 0))
        except OSError:
            return True
    return False
