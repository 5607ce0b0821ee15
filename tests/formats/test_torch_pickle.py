"""Hostile pickles: nothing of them runs, and none costs more than the bytes that wrote it."""

from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
import zipfile

import pytest

from porting.checkpoint.registry import read
from porting.checkpoint.torch.pickle import load
from porting.checkpoint.torch.tree import flatten
from porting.checkpoint.torch.values import PickleError
from porting.errors import FormatError

PROTO = b"\x80\x02"


def parse(data: bytes):
    value, end, _ = load(memoryview(data))
    return flatten(value, 4 * end)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def nested(depth: int, join: bytes) -> bytes:
    return PROTO + b")" + join * depth + b"."


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
OD = b"ccollections\nOrderedDict\n)R"

ATTACKS = {
    "os.system": (pickle.dumps({"w": Evil(os.system, ("true",))}, 2), r"posix\.system.*never run"),
    "builtins.eval": (pickle.dumps([Evil(eval, ("1",))], 4), r"builtins\.eval.*never run"),
    "exec by stack global": (
        PROTO + text("builtins") + text("exec") + b"\x93" + text("1") + b"\x85R.",
        "builtins.exec",
    ),
    "dotted attribute": (PROTO + text("torch") + text("hub.load") + b"\x93.", "torch.hub.load"),
    "getattr": (PROTO + b"c__builtin__\ngetattr\n.", "builtins.getattr"),
    "torch.load inside": (PROTO + b"ctorch.serialization\nload\n.", "torch.serialization.load"),
    "storage loader": (PROTO + b"ctorch.storage\n_load_from_bytes\n.", "pickled without torch.save"),
    "nested reduce": (PROTO + OD + b")R.", "not a function"),
    "reduce of text": (PROTO + text("os.system") + text("ls") + b"\x85R.", "not a function"),
    "reduce of a dtype": (PROTO + b"ctorch\nfloat32\n)R.", "not a function"),
    "build on a list": (PROTO + b"]}b.", "a state for something"),
    "build on text": (PROTO + text("x") + b"}b.", "a state for something"),
    "build of a class": (PROTO + b"ccollections\nOrderedDict\n}b.", "a state for something"),
    "new object": (PROTO + b"ctorch\nSize\n)\x81.", "not plain data"),
    "class that is called": (PROTO + b"ctorch\nTensor\n)R.", "not a function"),
    "inst": (PROTO + b"(ios\nsystem\n.", "opcode INST"),
    "obj": (PROTO + b"(cbuiltins\nset\no.", "opcode OBJ"),
    "newobj_ex": (PROTO + b"ctorch\nSize\n)}\x92.", "opcode NEWOBJ_EX"),
    "ext1": (PROTO + b"\x82\x01.", "opcode EXT1"),
    "ext4": (PROTO + b"\x84\x01\0\0\0.", "opcode EXT4"),
    "persid as text": (PROTO + b"Pstorage\n.", "opcode PERSID"),
    "decimal": (PROTO + b"I" + b"9" * 5000 + b"\n.", "opcode INT"),
    "buffers": (PROTO + b"\x97.", "opcode NEXT_BUFFER"),
    "unknown opcode": (PROTO + b"\xff.", "opcode 0xff"),
    "protocol 9": (b"\x80\x09N.", "protocol 2 to 5"),
    "long4": (PROTO + b"\x8b\xff\xff\xff\x7f.", "integer of 2147483647 bytes"),
    "negative long4": (PROTO + b"\x8b\xff\xff\xff\xff.", "integer of -1 bytes"),
    "long text": (PROTO + b"X\xff\xff\xff\xff.", "bytes of text"),
    "long text 8": (PROTO + b"\x8d" + b"\xff" * 8 + b".", "bytes of text"),
    "long bytes": (PROTO + b"B\x00\x00\x00\x02.", "are left"),
    "a frame that lies": (b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.", "a frame of"),
    "no text": (PROTO + b"X\x02\0\0\0\xff\xfe.", "not UTF-8"),
    "an endless name": (PROTO + b"c" + b"a" * 5000 + b".", "does not end"),
    "underflow": (PROTO + b"N00.", "empty"),
    "below the mark": (PROTO + b"N(0.", "empty"),
    "no mark": (PROTO + b"Nt.", "there is none"),
    "empty": (PROTO + b".", "empty"),
    "no stop": (PROTO + b"N", "cut off"),
    "memo of nothing": (PROTO + b"q\0.", "empty"),
    "memo not set": (PROTO + b"h\x07.", "memo 7"),
    "odd items": (PROTO + b"}(N" + b"u.", "not a mapping"),
    "items of a list": (PROTO + b"](NNu.", "not a mapping"),
    "append to a tuple": (PROTO + b")Na.", "not a list"),
    "a key that is a list": (PROTO + b"}]Ns.", "a list"),
    "a key that is a tuple": (PROTO + b"})Ns.", "a tuple"),
    "a key of 100 bytes": (PROTO + b"}\x8a\x64" + b"\x7f" * 100 + b"Ns.", "a int"),
    "a set of keys": (PROTO + b"\x8f(N\x90\x8f" + b"Q.", "other than a storage"),
    "a module as storage": (PROTO + b"(" + text("module") + b"NNNNtQ.", "whole module"),
    "a storage of no class": (
        PROTO + b"(" + text("storage") + b"ctorch\nSize\n" + text("0") * 2 + b"K\x04tQ.",
        "no known class",
    ),
    "a negative storage": (
        PROTO + b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") * 2 + b"J\xff\xff\xff\xfftQ.",
        "impossible number",
    ),
    "a tensor behind its storage": (
        PROTO + REBUILD + b"(" + STORAGE + b"K\x01K\x04\x85K\x01\x85\x89" + OD + b"tR.",
        "ends behind",
    ),
    "a tensor without a storage": (PROTO + REBUILD + b"(NK\x00))\x89NtR.", "without a storage"),
    "negative strides": (
        PROTO + REBUILD + b"(" + STORAGE + b"K\x03K\x04\x85J\xff\xff\xff\xff\x85\x89NtR.",
        "natural numbers",
    ),
    "too few arguments": (PROTO + REBUILD + b")R.", "does not take"),
    "a huge expanded tensor": (
        PROTO + REBUILD + b"(" + STORAGE + b"K\x00J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86K\x00K\x00\x86\x89NtR.",
        "a tensor of shape",
    ),
    "a huge empty tensor": (
        PROTO
        + REBUILD
        + b"("
        + STORAGE
        + b"K\x00(K\x00"
        + b"J\xff\xff\xff\x7f" * 3
        + b"t(K\x00K\x00K\x00K\x00t\x89NtR.",
        "a tensor of shape",
    ),
    "a subclass": (
        PROTO + b"ctorch._tensor\n_rebuild_from_type_v2\n(" + REBUILD + b"ctorch\nSize\n)NtR.",
        "a subclass",
    ),
    "a call through rebuild": (
        PROTO + b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\ndevice\nctorch\nTensor\n" + text("cpu") + b"\x85NtR.",
        "other than torch",
    ),
    "unpickled twice": (
        PROTO + b"ctorch._tensor\n_rebuild_from_type_v2\n" + b"(ctorch._tensor\n_rebuild_from_type_v2\nNNNtR.",
        "other than torch",
    ),
    "deep lists": (PROTO + b"]" * 100_000 + b"a" * 99_999 + b".", "deep"),
    "deep tuples": (nested(100_000, b"\x85"), "deep"),
    "a list in itself": (PROTO + b"]q\0h\0a.", "deep"),
    "billion laughs": (nested(60, b"q\0h\0\x86"), "deep|shared"),
    "billion laughs as a key": (PROTO + b"}" + nested(60, b"q\0h\0\x86")[2:-1] + b"Ns.", "a tuple"),
    "billion laughs as a size": (PROTO + b"ctorch\nSize\n" + nested(60, b"q\0h\0\x86")[2:-1] + b"\x85R.", "natural"),
    "billion laughs as an id": (nested(60, b"q\0h\0\x86")[:-1] + b"Q.", "other than a storage"),
    "billion laughs as an encoding": (
        PROTO + b"c_codecs\nencode\n" + text("a") + nested(60, b"q\0h\0\x86")[2:-1] + b"\x86R.",
        "latin-1",
    ),
    "billion laughs as a byte order": (
        PROTO + b"cnumpy\ndtype\n" + text("f8") + b"\x85R" + b"N" + nested(60, b"q\0h\0\x86")[2:-1] + b"\x86b.",
        "a state",
    ),
    "the same text copied": (
        PROTO + text("a" * 100_000) + b"q\0(" + b"c_codecs\nencode\nh\0X\x06\0\0\0latin1\x86R" * 5000 + b"t.",
        "bytes of text",
    ),
    "the same list copied": (
        PROTO + b"](" + b"N" * 100_000 + b"eq\0(" + b"cbuiltins\nset\nh\0\x85R" * 5000 + b"t.",
        "bytes of text",
    ),
    "wide sharing": (PROTO + b"](" + b"N" * 10_000 + b"eq\0](" + b"h\0" * 10_000 + b"e.", "shared"),
    "too many opcodes": (PROTO + b"N0" * 2_000_100 + b"N.", "opcodes"),
    "two tensors of a name": (
        PROTO
        + b"}("
        + text("a.b")
        + REBUILD
        + b"("
        + STORAGE
        + b"K\x00))\x89NtRq\x05"
        + text("a")
        + b"}"
        + text("b")
        + b"h\x05su.",
        "two tensors",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name):
    data, problem = ATTACKS[name]
    start = time.monotonic()
    with pytest.raises(PickleError, match=problem):
        parse(data)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "name", ["billion laughs", "the same text copied", "the same list copied", "wide sharing", "deep lists"]
)
def test_memory_stays_small(name):
    tracemalloc.start()
    try:
        with pytest.raises(PickleError):
            parse(ATTACKS[name][0])
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_a_file_says_which_record_and_where(tmp_path):
    marker = tmp_path / "ran"
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("evil/data.pkl", pickle.dumps({"w": Evil(os.mkdir, (str(marker),))}, 2))
    with pytest.raises(FormatError, match=r"evil\.pt: evil/data\.pkl at \d+: holds posix\.mkdir"):
        read(tmp_path / "evil.pt")
    assert not marker.exists()


def test_plain_values_of_every_protocol():
    value = {"a": [1, -1, 300, 70000, 2**40, -(2**70), 1.5, None, True, False, "é", ()], "b": {1: {"c": (1, 2, 3, 4)}}}
    for protocol in (2, 3, 4, 5):
        tree = parse(pickle.dumps(value, protocol)).tree
        assert tree["a"] == [*value["a"][:-1], {"tuple": []}]
        assert tree["b"] == {"items": [[1, {"c": {"tuple": [1, 2, 3, 4]}}]]}


def test_a_namespace_becomes_its_fields():
    import argparse

    # As fairseq keeps its arguments.
    tree = parse(pickle.dumps({"args": argparse.Namespace(arch="roberta", layers=12)}, 2)).tree
    assert tree == {"args": {"arch": "roberta", "layers": 12}}
