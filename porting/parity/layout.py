"""The files of a capture and their JSON: what writer and reader have to agree on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, get_args

import xxhash

from porting.convert.columns import jsonable
from porting.parity.capture import Manifest, Section, Summary

MANIFEST, SUMMARIES, STEPS = "manifest.json", "summaries.jsonl", "steps.jsonl"

SECTIONS: tuple[str, ...] = get_args(Section)

ROOM = 64 << 10
"""Bytes that the header of a file of tensors takes, its length included. It is written when the file is closed, in
front of tensors that are on the disk by then; the format lets a header end in any number of spaces."""

FILE = 256_000_000
"""Bytes of tensors after which a file is closed. A larger tensor has a file of its own."""

SELF = "hash"
"""The manifest's key for the hash over the rest of it: it tells a slip of the hand, not a forger."""


def tensors_name(number: int) -> str:
    """The name of a file of tensors."""
    return f"tensors-{number:05d}.safetensors"


def hashed(data: bytes | memoryview) -> str:
    """A hash, with the name of its algorithm."""
    return f"xxh3_128:{xxhash.xxh3_128_hexdigest(data)}"


def line(values: Mapping[str, Any]) -> str:
    """One JSON object on one line. Numbers that JSON does not know are strings: nan, inf, -inf."""
    return json.dumps(jsonable(values), ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a line, with its numbers as numbers again."""
    special = ("nan", "inf", "-inf")
    return {key: float(value) if value in special else value for key, value in values.items()}


def summary_values(summary: Summary) -> dict[str, Any]:
    """A summary as JSON values."""
    return asdict(summary)


def content_hash(summaries: Mapping[Any, Summary]) -> str:
    """A hash over what was computed: names, shapes, dtypes and bytes, in order, whether they are stored or not."""
    rows = [(s.section, s.name, list(s.shape), s.dtype, s.hash) for s in summaries.values()]
    return hashed(json.dumps(rows).encode())


def manifest_text(manifest: Manifest) -> str:
    """The manifest's JSON, with the hash over itself."""
    fields_ = jsonable({field.name: getattr(manifest, field.name) for field in fields(manifest)})
    values = json.loads(json.dumps(fields_, allow_nan=False))  # as it will be read: keys are strings
    return json.dumps({**values, SELF: self_hash(values)}, indent=1, ensure_ascii=False) + "\n"


def self_hash(values: Mapping[str, Any]) -> str:
    """The hash over the values of a manifest."""
    return hashed(json.dumps(values, sort_keys=True, separators=(",", ":")).encode())
