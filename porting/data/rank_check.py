"""Reads rank tables, and names everything in them that HCCL would stumble over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from porting.data.ranks import Device, RankTable, rank_table, read_json
from porting.errors import MismatchError


def read_rank_table(path: Path) -> RankTable:
    """A table in any of its forms.

    Raises: FormatError for a file that is no JSON object; MismatchError that names every problem.
    """
    value = read_json(path)
    found = _Reader()
    old = "group_list" in value
    found.same("status", value, "completed")
    entries = list(found.instances(value) if old else found.by_server(value))
    form = "old" if old else str(value.get("version"))
    ranks = [rank for rank, _ in entries]
    if sorted(ranks) != list(range(len(ranks))):
        found.problems.append(f"rank_id: wanted 0 to {len(ranks) - 1}, each once, got {', '.join(map(str, ranks))}")
    if found.problems:
        raise MismatchError(f"{path}: is no rank table that HCCL takes", found.problems)
    try:
        return rank_table(form, [device for _, device in sorted(entries, key=lambda entry: entry[0])])
    except MismatchError as error:
        raise MismatchError(f"{path}: is no rank table that HCCL takes", error.problems) from None


class _Reader:
    """Collects problems on the way."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def same(self, place: str, value: Mapping[str, Any], wanted: str) -> None:
        """A field that has one value."""
        key = place.rpartition(".")[2]
        if value.get(key) != wanted:
            self.problems.append(f"{place}: wanted {wanted!r}, got {value.get(key)!r}")

    def text(self, place: str, value: Mapping[str, Any], key: str) -> str:
        """A field that holds a string."""
        got = value.get(key)
        if not isinstance(got, str) or not got:
            self.problems.append(f"{place}.{key}: wanted a string, got {got!r}")
        return str(got)

    def number(self, place: str, value: Mapping[str, Any], key: str) -> int:
        """A field that holds a number as a string."""
        got = value.get(key)
        if isinstance(got, str) and got.isdecimal():
            return int(got)
        self.problems.append(f"{place}.{key}: wanted a number as a string, got {got!r}")
        return -1

    def list_of(self, place: str, value: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The objects of a list, each with its place."""
        got = value.get(key)
        if not isinstance(got, list) or not all(isinstance(item, dict) for item in got):
            self.problems.append(f"{place}{key}: wanted a list of objects, got {type(got).__name__}")
            return
        for number, item in enumerate(got):
            yield f"{place}{key}[{number}]", item

    def by_server(self, value: Mapping[str, Any]) -> Iterator[tuple[int, Device]]:
        """Versions 1.0 and 1.2."""
        version = value.get("version")
        if version not in {"1.0", "1.2"}:
            self.problems.append(f"version: wanted '1.0' or '1.2', got {version!r}")
        servers = list(self.list_of("", value, "server_list"))
        self.same("server_count", value, str(len(servers)))
        pods = self._pods(value) if version == "1.2" else {}
        for place, server in servers:
            name = self.text(place, server, "server_id")
            if version == "1.2" and name not in pods:
                self.problems.append(f"{place}: server {name} is in no super_pod_list")
            for its_place, device in self.list_of(f"{place}.", server, "device"):
                above = self.number(its_place, device, "super_device_id") if version == "1.2" else None
                yield (
                    self.number(its_place, device, "rank_id"),
                    Device(
                        name,
                        self.number(its_place, device, "device_id"),
                        self.text(its_place, device, "device_ip"),
                        above,
                        pods.get(name, "0"),
                    ),
                )

    def _pods(self, value: Mapping[str, Any]) -> dict[str, str]:
        """The super pod of each server."""
        found: dict[str, str] = {}
        for place, pod in self.list_of("", value, "super_pod_list"):
            name = self.text(place, pod, "super_pod_id")
            for its_place, server in self.list_of(f"{place}.", pod, "server_list"):
                found[self.text(its_place, server, "server_id")] = name
        return found

    def instances(self, value: Mapping[str, Any]) -> Iterator[tuple[int, Device]]:
        """The older form. An instance without a rank_id has its place in the list for a rank."""
        groups = list(self.list_of("", value, "group_list"))
        self.same("group_count", value, str(len(groups)))
        names = value.get("para_plane_nic_name")
        if names is not None:
            self.same("para_plane_nic_num", value, str(len(names) if isinstance(names, list) else 0))
        count = 0
        for place, group in groups:
            instances = list(self.list_of(f"{place}.", group, "instance_list"))
            self.same(f"{place}.instance_count", group, str(len(instances)))
            for its_place, instance in instances:
                server = self.text(its_place, instance, "server_id")
                for at, device in self.list_of(f"{its_place}.", instance, "devices"):
                    rank = self.number(its_place, instance, "rank_id") if "rank_id" in instance else count
                    number, address = self.number(at, device, "device_id"), self.text(at, device, "device_ip")
                    yield rank, Device(server, number, address)
                    count += 1
