"""Rank tables in three forms: written as HCCL's own documents show them, read back, and refused with every problem."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from porting.data.rank_check import read_rank_table
from porting.data.ranks import FORMS, Device, rank_table, read_hccn, write_rank_table
from porting.errors import FormatError, MismatchError, UsageError

Port = Callable[..., Any]
DEVICES = [
    Device("10.0.0.10", 0, "192.168.1.8", 0),
    Device("10.0.0.10", 1, "192.168.1.9", 1),
    Device("10.0.0.11", 0, "192.168.2.8", 2),
    Device("10.0.0.11", 1, "192.168.2.9", 3),
]
SERVERS = [
    "--server", "10.0.0.10/0=192.168.1.8=0,1=192.168.1.9=1", "--server", "10.0.0.11/0=192.168.2.8=2,1=192.168.2.9=3",
]  # fmt: skip

V10 = {
    "version": "1.0",
    "server_count": "2",
    "server_list": [
        {
            "server_id": f"10.0.0.1{server}",
            "device": [
                {"device_id": str(d), "device_ip": f"192.168.{server + 1}.{d + 8}", "rank_id": str(2 * server + d)}
                for d in (0, 1)
            ],
            "host_nic_ip": "reserve",
        }
        for server in (0, 1)
    ],
    "status": "completed",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_comes_back(form: str, port: Port, tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    ran = port("data", "ranks", "write", path, *SERVERS, "--form", form)
    assert (ran.code, ran.err) == (0, "")
    table = read_rank_table(path)
    assert table.form == form
    assert [(d.server, d.number, d.address) for d in table.devices] == [
        (d.server, d.number, d.address) for d in DEVICES
    ]
    ran = port("data", "ranks", "check", path)
    assert (ran.code, ran.err) == (0, "")
    assert f"form {form}, 4 ranks on 2 servers" in ran.out
    assert "rank 3: server 10.0.0.11, device 1, 192.168.2.9" in ran.out


def test_version_1_0_is_as_documented() -> None:
    assert rank_table("1.0", DEVICES).to_json() == V10


def test_version_1_2_adds_super_pods(port: Port, tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    pods = ["--pod", "7:10.0.0.10", "--pod", "8:10.0.0.11"]
    assert port("data", "ranks", "write", path, *SERVERS, *pods, "--form", "1.2").code == 0
    table = json.loads(path.read_text())
    assert table["version"] == "1.2"
    assert table["server_list"][1]["device"][0]["super_device_id"] == "2"
    assert table["super_pod_list"] == [
        {"super_pod_id": "7", "server_list": [{"server_id": "10.0.0.10"}]},
        {"super_pod_id": "8", "server_list": [{"server_id": "10.0.0.11"}]},
    ]
    assert [device.pod for device in read_rank_table(path).devices] == ["7", "7", "8", "8"]


def test_the_older_form_is_that_of_the_guide() -> None:
    table = rank_table("old", DEVICES[:2]).to_json()
    assert table == {
        "board_id": "0x0000",
        "chip_info": "910",
        "deploy_mode": "lab",
        "group_count": "1",
        "group_list": [
            {
                "device_num": "2",
                "server_num": "1",
                "group_name": "",
                "instance_count": "2",
                "instance_list": [
                    {
                        "devices": [{"device_id": str(d), "device_ip": f"192.168.1.{d + 8}"}],
                        "rank_id": str(d),
                        "server_id": "10.0.0.10",
                    }
                    for d in (0, 1)
                ],
            }
        ],
        "para_plane_nic_location": "device",
        "para_plane_nic_name": ["eth0", "eth1"],
        "para_plane_nic_num": "2",
        "status": "completed",
    }


def test_tables_of_single_servers_are_joined(port: Port, tmp_path: Path) -> None:
    for number in (0, 1):
        table = rank_table("old", DEVICES[2 * number : 2 * number + 2])
        write_rank_table(table, tmp_path / f"{number}.json")
    out = tmp_path / "both.json"
    ran = port("data", "ranks", "write", out, "--join", tmp_path / "0.json", "--join", tmp_path / "1.json")
    assert (ran.code, ran.out) == (0, f"{out}: 4 ranks\n")
    assert json.loads(out.read_text()) == V10
    assert "exists already" in port("data", "ranks", "write", out, *SERVERS).err


def changed(**at: Any) -> dict[str, Any]:
    """V10 with values at paths like server_list__0__device__1__rank_id; ... removes."""
    table = json.loads(json.dumps(V10))
    for path, value in at.items():
        *way, last = path.split("__")
        inner = table
        for step in way:
            inner = inner[int(step)] if step.isdecimal() else inner[step]
        if value is ...:
            del inner[last]
        else:
            inner[last] = value
    return table


FIRST = "server_list__0__device__0__"
WRONG: dict[str, tuple[Any, list[str]]] = {
    "status": (changed(status="initializing"), ["status: wanted 'completed', got 'initializing'"]),
    "version": (changed(version="2.0"), ["version: wanted '1.0' or '1.2', got '2.0'"]),
    "count": (changed(server_count="3"), ["server_count: wanted '2', got '3'"]),
    "a bare number": (
        changed(**{f"{FIRST}device_id": 0}),
        ["server_list[0].device[0].device_id: wanted a number as a string, got 0"],
    ),
    "ranks": (changed(**{f"{FIRST}rank_id": "1"}), ["rank_id: wanted 0 to 3, each once, got 1, 1, 2, 3"]),
    "no address": (changed(**{f"{FIRST}device_ip": ...}), ["device_ip: wanted a string, got None"]),
    "bad address": (
        changed(**{f"{FIRST}device_ip": "192.168.1.x"}),
        ["rank 0 (server 10.0.0.10, device 0): wanted an IP"],
    ),
    "twice": (
        changed(**{f"{FIRST}device_ip": "192.168.1.9", f"{FIRST}device_id": "1"}),
        ["rank 1 (server 10.0.0.10, device 1): the device_id 1 of rank 0", "the device_ip 192.168.1.9 of rank 0"],
    ),
    "no list": (changed(server_list={}), ["server_list: wanted a list of objects, got dict"]),
    "1.2 without pods": (
        changed(version="1.2"),
        [
            "super_pod_list: wanted a list",
            "super_device_id: wanted a number",
            "server 10.0.0.10 is in no super_pod_list",
        ],
    ),
    "old, counts": (
        rank_table("old", DEVICES).to_json() | {"group_count": "2", "para_plane_nic_num": "8"},
        ["group_count: wanted '1', got '2'", "para_plane_nic_num: wanted '2', got '8'"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_every_problem_is_named(case: str, port: Port, tmp_path: Path) -> None:
    table, problems = WRONG[case]
    path = tmp_path / "hccl.json"
    path.write_text(json.dumps(table))
    ran = port("data", "ranks", "check", path)
    assert (ran.code, ran.out) == (2, "")
    assert "hccl.json: is no rank table that HCCL takes" in ran.err
    for problem in problems:
        assert problem in ran.err


@pytest.mark.parametrize(("text", "why"), [("", "is no JSON"), ("[]", "wanted a JSON object, got list")])
def test_what_is_no_table_at_all(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "hccl.json"
    with pytest.raises(FormatError, match="cannot be read"):
        read_rank_table(path)
    path.write_text(text)
    with pytest.raises(FormatError, match=why):
        read_rank_table(path)


@pytest.mark.parametrize("server", ["10.0.0.1", "/0=1.1.1.1", "a/x=1.1.1.1", "a/0", "a/0=1.1.1.1=x", "a/0=1.1.1.1,"])
def test_servers_that_are_not_understood(server: str, port: Port, tmp_path: Path) -> None:
    ran = port("data", "ranks", "write", tmp_path / "hccl.json", "--server", server)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"port: error: --server: wanted SERVER/DEVICE=ADDRESS[=SUPER_DEVICE],…, got {server}\n"


def test_what_cannot_be_written(port: Port, tmp_path: Path) -> None:
    out = tmp_path / "hccl.json"
    assert "wanted a device at least, got none" in port("data", "ranks", "write", out).err
    assert "--form: wanted 1.0, 1.2, old, got 2" in port("data", "ranks", "write", out, *SERVERS, "--form", "2").err
    ran = port("data", "ranks", "write", out, "--server", "a/0=1.1.1.1", "--form", "1.2")
    assert "rank 0 (server a, device 0): version 1.2 wants a super_device_id, got none" in ran.err
    assert "server 10.0.0.11 is in no pod" in port("data", "ranks", "write", out, *SERVERS, "--pod", "0:10.0.0.10").err
    assert "--pod: wanted POD:SERVER" in port("data", "ranks", "write", out, *SERVERS, "--pod", "0").err
    assert not out.exists()


def test_hccn_conf(tmp_path: Path) -> None:
    conf = tmp_path / "hccn.conf"
    conf.write_text("address_1=192.168.1.9\nnetmask_0=255.255.255.0\naddress_0=192.168.1.8\n")
    assert [(d.number, d.address) for d in read_hccn(conf, "s")] == [(0, "192.168.1.8"), (1, "192.168.1.9")]
    conf.write_text("")
    with pytest.raises(FormatError, match="wanted lines like address_0="):
        read_hccn(conf, "s")


def test_unknown_form_in_the_api() -> None:
    with pytest.raises(UsageError, match="--form"):
        rank_table("3", DEVICES)
    with pytest.raises(MismatchError, match="got none"):
        rank_table("1.0", [])
