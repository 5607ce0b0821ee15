"""The porting kit: moves models between frameworks, and proves that the port is right.

    import porting

    checkpoint = porting.read("bert_model.ckpt")          # lazy, any format, found by content
    ledger = porting.convert("bert_model.ckpt", "bert.safetensors", to="pytorch")
    difference = porting.diff("bert_model.ckpt", "bert.safetensors")

Importing the package imports none of its parts; they are loaded when they are named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from porting.errors import FormatError, MismatchError, PortError, TableError, UsageError
from porting.version import VERSION as __version__  # noqa: N811 - the name that packages give it

if TYPE_CHECKING:
    from porting.checkpoint.registry import read
    from porting.checkpoint.write import write
    from porting.convert.convert import convert
    from porting.convert.diff import diff
    from porting.convert.inspect import inspect
    from porting.convert.verify import verify
    from porting.parity.compare import compare
    from porting.parity.matching.propose import propose_mapping
    from porting.parity.own import capture
    from porting.parity.reader import read_capture

__all__ = [
    "FormatError",
    "MismatchError",
    "PortError",
    "TableError",
    "UsageError",
    "__version__",
    "capture",
    "compare",
    "convert",
    "diff",
    "inspect",
    "propose_mapping",
    "read",
    "read_capture",
    "verify",
    "write",
]

_WHERE = {
    "capture": "porting.parity.own",
    "compare": "porting.parity.compare",
    "diff": "porting.convert.diff",
    "inspect": "porting.convert.inspect",
    "propose_mapping": "porting.parity.matching.propose",
    "read": "porting.checkpoint.registry",
    "read_capture": "porting.parity.reader",
    "verify": "porting.convert.verify",
    "write": "porting.checkpoint.write",
}


def __getattr__(name: str) -> Any:
    if name == "convert":
        return import_module("porting.convert")
    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'porting' has no attribute {name!r}")
