"""numpy's .npz."""

from __future__ import annotations

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.format import Format, deferred, gated
from porting.checkpoint.zip_names import zip_names

_HERE = "porting.checkpoint.npz.files"

FORMAT = Format(
    "npz",
    "numpy",
    ".npz",
    gated(f"{_HERE}:locate", lambda path: b".npy" in zip_names(path)),
    deferred(f"{_HERE}:read"),
    deferred(f"{_HERE}:plan"),
    frozenset(DTYPES) - {"string"},
    verify=deferred(f"{_HERE}:verify"),
)
