"""numpy's .npz."""

from __future__ import annotations

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.format import Format, deferred, gated
from porting.checkpoint.zip_names import zip_may_name

_HERE = "porting.checkpoint.npz.files"

FORMAT = Format(
    "npz",
    "numpy",
    ".npz",
    gated(f"{_HERE}:locate", lambda path: zip_may_name(path, b".npy")),
    deferred(f"{_HERE}:read"),
    deferred(f"{_HERE}:plan"),
    frozenset(DTYPES) - {"string"},
    verify=deferred(f"{_HERE}:verify"),
)
