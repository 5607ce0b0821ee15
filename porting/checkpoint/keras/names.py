"""Keras' names of the datasets in its HDF5 files.

Three layouts: `.weights.h5` of Keras 3 (`layers/dense/vars/0`; the user's layer name is an attribute at best), the
legacy weights file (groups by layer, names in the attributes layer_names and weight_names), and the
legacy whole model, which holds such a file in the group model_weights.

Reference: keras/src/saving/saving_lib.py, keras/src/legacy/saving/legacy_h5_format.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.keras.h5_file import H5File
from porting.errors import FormatError

_TOP = "top_level_model_weights"
_OPTIMIZER = "optimizer_weights"
_TOLD = ("keras_version", "backend", "model_config", "training_config")


def as_checkpoint(path: Path, file: H5File, kind: str, metadata: Mapping[str, Any]) -> Checkpoint:
    """The datasets under Keras' names.

    metadata: keras_version, backend, model_config and training_config as texts where the file has them;
        `layers` maps the groups of a `.weights.h5` to the user's layer names.
    Raises: FormatError if the file lists weights that it does not hold.
    """
    root = file.attributes.get("", {})
    told = {name: root[name] for name in _TOLD if name in root} | dict(metadata)
    base = "model_weights" if "model_weights" in file.attributes else ""
    if _strings(file.attributes.get(base, {}), "layer_names") is None:
        layers = {
            group.removesuffix("vars").removesuffix("/"): values["name"]
            for group, values in file.attributes.items()
            if "name" in values
        }
        return Checkpoint(path, kind, file.entries, (path,), told | {"layers": layers})
    names = _legacy_names(path, file, base)
    entries = {
        name: file.entries[where]._replace(name=name, tied=names.get(file.entries[where].tied or ""))
        for where, name in names.items()
    }
    unlisted = len(file.entries) - len(names)
    notes = (f"{unlisted} datasets that weight_names does not list are not read",) if unlisted else ()
    return Checkpoint(path, kind, entries, (path,), told, notes)


def _legacy_names(path: Path, file: H5File, base: str) -> dict[str, str]:
    """From the path of each dataset to its name, in the order of layer_names and weight_names.

    A name that two layers use gets its layer's in front; the optimizer's variables keep their path.
    """
    listed = list(_listed(path, file, base))
    times = Counter(weight for _, weight, _ in listed)
    names = {where: weight if times[weight] == 1 else f"{layer}/{weight}" for layer, weight, where in listed}
    for weight in _strings(file.attributes.get(_OPTIMIZER, {}), "weight_names") or ():
        names[f"{_OPTIMIZER}/{weight}"] = f"{_OPTIMIZER}/{weight}"
    if absent := [where for where in names if where not in file.entries]:
        raise FormatError(path, absent[0], f"listed in weight_names but not there ({len(absent)} such)")
    if len(set(names.values())) != len(names):
        raise FormatError(path, "", "weight_names lists a weight twice")
    return names


def _listed(path: Path, file: H5File, base: str) -> Iterator[tuple[str, str, str]]:
    """(layer, weight, path of the dataset)."""
    prefix = f"{base}/" if base else ""
    layers = _strings(file.attributes.get(base, {}), "layer_names") or []
    for layer in dict.fromkeys([*layers, _TOP]):
        weights = _strings(file.attributes.get(prefix + layer, {}), "weight_names")
        if weights is None and layer != _TOP:
            raise FormatError(path, prefix + layer, "wanted a group with weight_names")
        for weight in weights or ():
            yield layer, weight, f"{prefix}{layer}/{weight}"


def _strings(values: Mapping[str, Any], name: str) -> list[str] | None:
    """A list attribute, whole or in the numbered parts that Keras splits long ones into."""
    if name in values:
        parts = [values[name]]
    else:
        numbers = range(len(values))
        parts = [values[f"{name}{i}"] for i in numbers if f"{name}{i}" in values]
    if not parts:
        return None
    return [item for part in parts for item in (part if isinstance(part, list) else [part])]
