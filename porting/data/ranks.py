"""Rank tables: which device of which server is which rank, as HCCL reads them.

Three forms: version 1.0, version 1.2 (super pods), and the older one of MindSpore's guides, with groups and instances.
HCCL takes every number as a string. Sources: Huawei, "Preparing the Ranktable Resource Configuration File" (HCCL guide,
CANN 8); mindspore-ai/models, utils/hccl_tools and get_multicards_json.py (the older form).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from porting.checkpoint.output import write_json
from porting.errors import FormatError, MismatchError, UsageError

FORMS = ("1.0", "1.2", "old")


@dataclass(frozen=True, slots=True)
class Device:
    """One device. server: its server's id, as a rule an address. number: its physical id there. address: of its NIC.

    super_number: its id in the super pod, which version 1.2 wants. pod: of its server.
    """

    server: str
    number: int
    address: str
    super_number: int | None = None
    pod: str = "0"


@dataclass(frozen=True, slots=True)
class RankTable:
    """Devices in the order of their ranks. form: one of FORMS."""

    form: str
    devices: tuple[Device, ...]

    def servers(self) -> dict[str, list[tuple[int, Device]]]:
        """The ranks and devices of each server."""
        found: dict[str, list[tuple[int, Device]]] = {}
        for rank, device in enumerate(self.devices):
            found.setdefault(device.server, []).append((rank, device))
        return found

    def to_json(self) -> dict[str, Any]:
        """As HCCL reads it."""
        return _old(self) if self.form == "old" else _by_server(self)


def rank_table(form: str, devices: Sequence[Device]) -> RankTable:
    """A table of devices in the order of their ranks.

    Raises: UsageError for an unknown form; MismatchError that names every device that does not fit.
    """
    if form not in FORMS:
        raise UsageError(f"--form: wanted {', '.join(FORMS)}, got {form}")
    problems = _device_problems(form, devices)
    if problems:
        raise MismatchError("the devices make no rank table", problems)
    return RankTable(form, tuple(devices))


def _device_problems(form: str, devices: Sequence[Device]) -> list[str]:
    problems = [] if devices else ["wanted a device at least, got none"]
    seen: dict[tuple[str, ...], str] = {}
    for rank, device in enumerate(devices):
        place = f"rank {rank} (server {device.server}, device {device.number})"
        if not _is_address(device.address):
            problems.append(f"{place}: wanted an IP address, got {device.address or 'none'}")
        if form == "1.2" and device.super_number is None:
            problems.append(f"{place}: version 1.2 wants a super_device_id, got none")
        keys = [("device_id", device.server, str(device.number)), ("device_ip", device.address)]
        if form == "1.2" and device.super_number is not None:
            keys.append(("super_device_id", device.pod, str(device.super_number)))
        for key in keys:
            if key in seen:
                problems.append(f"{place}: the {key[0]} {key[-1]} of {seen[key]} again")
            seen.setdefault(key, place)
    return problems


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _by_server(table: RankTable) -> dict[str, Any]:
    """Versions 1.0 and 1.2."""
    super_pods = table.form == "1.2"
    servers, pods = [], dict[str, list[dict[str, str]]]()
    for server, members in table.servers().items():
        entries = []
        for rank, device in members:
            entry = {"device_id": str(device.number), "device_ip": device.address, "rank_id": str(rank)}
            if super_pods:
                entry["super_device_id"] = str(device.super_number)
            entries.append(entry)
        servers.append({"server_id": server, "device": entries, "host_nic_ip": "reserve"})
        pods.setdefault(members[0][1].pod, []).append({"server_id": server})
    found: dict[str, Any] = {"version": table.form, "server_count": str(len(servers)), "server_list": servers}
    if super_pods:
        found["super_pod_list"] = [{"super_pod_id": pod, "server_list": its} for pod, its in pods.items()]
    return found | {"status": "completed"}


def _old(table: RankTable) -> dict[str, Any]:
    """The form of the TinyBERT guide: an instance per device, all in one group."""
    instances = [
        {
            "devices": [{"device_id": str(device.number), "device_ip": device.address}],
            "rank_id": str(rank),
            "server_id": device.server,
        }
        for rank, device in enumerate(table.devices)
    ]
    names = [f"eth{number}" for number in sorted({device.number for device in table.devices})]
    group = {
        "device_num": str(len(instances)),
        "server_num": str(len(table.servers())),
        "group_name": "",
        "instance_count": str(len(instances)),
        "instance_list": instances,
    }
    return {
        "board_id": "0x0000",
        "chip_info": "910",
        "deploy_mode": "lab",
        "group_count": "1",
        "group_list": [group],
        "para_plane_nic_location": "device",
        "para_plane_nic_name": names,
        "para_plane_nic_num": str(len(names)),
        "status": "completed",
    }


def write_rank_table(table: RankTable, path: Path, *, overwrite: bool = False) -> Path:
    """Write a table.

    Raises: UsageError if the file is there; FormatError if it cannot be written.
    """
    return write_json(path, table.to_json(), overwrite=overwrite, indent=4)


def read_json(path: Path) -> Mapping[str, Any]:
    """A file that holds a JSON object.

    Raises: FormatError for another one.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FormatError(path, "", f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise FormatError(path, "", f"is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(path, "", f"wanted a JSON object, got {type(value).__name__}")
    return value


def parse_server(text: str) -> list[Device]:
    """A server of the command line: SERVER/DEVICE=ADDRESS,…; for version 1.2 DEVICE=ADDRESS=SUPER_DEVICE.

    >>> parse_server("10.0.0.10/0=192.168.1.8,1=192.168.1.9")[1].address
    '192.168.1.9'

    Raises: UsageError for another text.
    """
    server, _, rest = text.partition("/")
    wanted = UsageError(f"--server: wanted SERVER/DEVICE=ADDRESS[=SUPER_DEVICE],…, got {text}")
    found = []
    for part in rest.split(","):
        number, *more = part.split("=")
        if not server or not number.isdecimal() or len(more) not in {1, 2} or not all(m.isdecimal() for m in more[1:]):
            raise wanted
        found.append(Device(server, int(number), more[0], int(more[1]) if more[1:] else None))
    return found


def read_hccn(path: Path, server: str) -> list[Device]:
    """The devices of this server by the driver's /etc/hccn.conf, whose lines are address_0=192.168.100.101.

    Raises: FormatError for a file without such lines.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(path, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    pairs = [line.strip().removeprefix("address_").split("=", 1) for line in lines if line.startswith("address_")]
    found = [Device(server, int(pair[0]), pair[1].strip()) for pair in pairs if len(pair) == 2 and pair[0].isdecimal()]
    if not found:
        raise FormatError(path, "", "wanted lines like address_0=192.168.100.101, got none")
    return sorted(found, key=lambda device: device.number)


def in_pods(devices: Sequence[Device], pods: Sequence[str]) -> list[Device]:
    """The devices with their servers' super pods. pods: POD:SERVER,SERVER… each.

    Raises: UsageError for a pod of another form, and for a server that is in none.
    """
    if not pods:
        return list(devices)
    of: dict[str, str] = {}
    for text in pods:
        pod, mark, servers = text.partition(":")
        if not pod or not mark or not servers:
            raise UsageError(f"--pod: wanted POD:SERVER,SERVER…, got {text}")
        of |= dict.fromkeys(servers.split(","), pod)
    lost = [device.server for device in devices if device.server not in of]
    if lost:
        raise UsageError(f"--pod: server {lost[0]} is in no pod")
    return [replace(device, pod=of[device.server]) for device in devices]
