"""Keras: HDF5 weights and models, and .keras archives; read only."""

from __future__ import annotations

from porting.checkpoint.format import Format, deferred, gated, head
from porting.checkpoint.zip_names import zip_may_name

_HERE = "porting.checkpoint.keras"

H5 = Format(
    "keras-h5",
    "tensorflow",
    ".h5",
    gated(f"{_HERE}.h5:locate", lambda path: head(path, 8) == b"\x89HDF\r\n\x1a\n"),
    deferred(f"{_HERE}.h5:read"),
)
ZIP = Format(
    "keras-zip",
    "tensorflow",
    ".keras",
    gated(f"{_HERE}.zip_file:locate", lambda path: zip_may_name(path, b"model.weights.h5")),
    deferred(f"{_HERE}.zip_file:read"),
    verify=deferred(f"{_HERE}.zip_file:verify"),
)
