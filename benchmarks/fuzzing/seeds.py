"""Valid checkpoints of every format, small and without any framework: one BERT of two layers throughout."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from porting.checkpoint.dtypes import DTYPES
from porting.checkpoint.format import TensorSpec
from porting.checkpoint.tensorflow.leveldb_build import build
from porting.checkpoint.tensorflow.proto import encode_shape
from porting.checkpoint.tensorflow.slices import slice_key
from porting.checkpoint.torch.pickler import flat_pickle
from porting.checkpoint.wire import integer, message
from porting.checkpoint.write import write
from porting.convert.registry import family_named
from porting.convert.sample import sample

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

SIZES = {"layer": 2, "hidden": 8, "inner": 12, "vocab": 30, "positions": 16, "token_types": 2}
GROUPS = ("backbone", "pooler", "mlm", "nsp")


@dataclass(frozen=True)
class Seed:
    """A valid checkpoint. typed: what a user would type, below the folder. files: all of its files.

    to: the dialect it is converted to. checked: every byte of it lies under a checksum of the format's own.
    """

    name: str
    format: str
    typed: str
    files: dict[str, bytes]
    to: str
    checked: bool = False


def arrays(dialect: str) -> Arrays:
    """The model in a dialect's names and axes."""
    return sample(family_named("bert"), dialect, SIZES, groups=GROUPS)


def onnx_model(tensors: Arrays, data: str = "") -> bytes:
    """Initializers inline, or in an external file `data` one after the other."""
    protos, at = [], 0
    for name, array in tensors.items():
        fields = b"".join(integer(1, size) for size in array.shape) + integer(2, 1) + message(8, name)
        if data:
            pairs = {"location": data, "offset": at, "length": array.nbytes}
            fields += b"".join(message(13, message(1, k) + message(2, str(v))) for k, v in pairs.items()) + integer(
                14, 1
            )
            at += array.nbytes
        else:
            fields += message(9, array.tobytes())
        protos.append(message(5, fields))
    graph = message(2, "g") + b"".join(protos)
    return integer(1, 10) + message(2, "fuzz") + message(7, graph) + message(8, message(1, "") + integer(2, 20))


def v1_table(tensors: Arrays) -> bytes:
    """A TensorFlow V1 checkpoint (tensor_slice_writer.cc): metadata under the empty key, a record per slice."""
    meta, items = b"", {}
    for name, array in tensors.items():
        whole = message(4, b"".join(message(1, b"") for _ in array.shape))
        meta += message(1, message(1, name) + message(2, encode_shape(array.shape)) + integer(3, 1) + whole)
        values = message(2, message(1, name) + message(3, message(5, array.tobytes())))
        items[slice_key(name.encode(), [(0, -1)] * array.ndim)] = values
    return build(sorted({b"": message(1, meta), **items}.items()))


def legacy_torch(tensors: Arrays) -> bytes:
    """What torch wrote before 1.6 (serialization.py, `_legacy_save`)."""
    specs = {name: TensorSpec(name, array.shape, DTYPES["float32"]) for name, array in tensors.items()}
    keys = {name: str(number) for number, name in enumerate(tensors)}
    opening = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    storages = [struct.pack("<q", array.size) + array.tobytes() for array in tensors.values()]
    return b"".join([*opening, flat_pickle(specs, keys), pickle.dumps(list(keys.values()), 2), *storages])


def h5_file(tensors: Arrays, **options: Any) -> bytes:
    """One dataset per tensor."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for name, array in tensors.items():
            file.create_dataset(name, data=array, **options)
    return held.getvalue()


def keras_archive(weights: bytes, method: int) -> bytes:
    """A `.keras` file around an HDF5 file."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.0"}')
        archive.writestr("config.json", '{"class_name": "Functional"}')
        archive.writestr("model.weights.h5", weights)
    return held.getvalue()


def compressed_npz(tensors: Arrays) -> bytes:
    """What numpy.savez_compressed writes."""
    held = io.BytesIO()
    np.savez_compressed(held, **tensors)  # type: ignore[arg-type]
    return held.getvalue()


def written(folder: Path, name: str, kind: str, tensors: Arrays, **options: Any) -> dict[str, bytes]:
    """The files of a checkpoint that the kit writes."""
    place = folder / f"{kind}-{len(list(folder.iterdir()))}"
    place.mkdir()
    return {file.name: file.read_bytes() for file in write(place / name, tensors, format=kind, **options)}


def seeds(folder: Path) -> list[Seed]:
    """All of them. folder: empty, for the kit's writers."""
    google, hf, modelzoo = arrays("google"), arrays("hf"), arrays("modelzoo")

    def own(name: str, kind: str, tensors: Arrays, **options: Any) -> dict[str, bytes]:
        return written(folder, name, kind, tensors, **options)

    single: Callable[[str, bytes], dict[str, bytes]] = lambda name, data: {name: data}  # noqa: E731 - a dict of one
    deflated = {"chunks": True, "compression": "gzip", "shuffle": True}
    plain, packed = h5_file(google), h5_file({n: a for n, a in google.items() if a.ndim}, **deflated)
    outside = {"m.onnx": onnx_model(hf, "m.data"), "m.data": b"".join(array.tobytes() for array in hf.values())}
    bundle, ckpt, sharded = "tf-bundle", "mindspore-ckpt", {"shard_size": 3000}
    stored, squeezed = (keras_archive(plain, method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    return [
        Seed("bundle", bundle, "m.ckpt", own("m.ckpt", bundle, google), "modelzoo", checked=True),
        Seed("bundle, sharded", bundle, "m.ckpt", own("m.ckpt", bundle, google, **sharded), "hf", checked=True),
        Seed("v1", "tf-v1", "m.ckpt", single("m.ckpt", v1_table(google)), "modelzoo", checked=True),
        Seed("ckpt", ckpt, "m.ckpt", own("m.ckpt", ckpt, modelzoo), "hf"),
        Seed("ckpt, crc", ckpt, "m.ckpt", own("m.ckpt", ckpt, modelzoo, extra={"crc": True}), "google"),
        Seed("ms safetensors", "mindspore-safetensors", "m", own("m", "mindspore-safetensors", modelzoo), "google"),
        Seed("safetensors", "safetensors", "m.safetensors", own("m.safetensors", "safetensors", hf), "google"),
        Seed(
            "safetensors, sharded", "safetensors", "m.safetensors.index.json",
            own("m.safetensors", "safetensors", hf, **sharded), "modelzoo",
        ),
        Seed("torch", "torch", "m.bin", own("m.bin", "torch", hf), "google", checked=True),
        Seed("torch, sharded", "torch", "m.bin.index.json", own("m.bin", "torch", hf, **sharded), "modelzoo"),
        Seed("torch, legacy", "torch-legacy", "m.bin", single("m.bin", legacy_torch(hf)), "modelzoo"),
        Seed("onnx", "onnx", "m.onnx", single("m.onnx", onnx_model(hf)), "modelzoo"),
        Seed("onnx, external", "onnx", "m.onnx", outside, "google"),
        Seed("npz", "npz", "m.npz", own("m.npz", "npz", hf), "modelzoo", checked=True),
        Seed("npz, compressed", "npz", "m.npz", single("m.npz", compressed_npz(hf)), "google", checked=True),
        Seed("h5", "keras-h5", "m.h5", single("m.h5", plain), "modelzoo"),
        Seed("h5, compressed", "keras-h5", "m.h5", single("m.h5", packed), "hf"),
        Seed("keras", "keras-zip", "m.keras", single("m.keras", stored), "modelzoo", checked=True),
        Seed("keras, deflated", "keras-zip", "m.keras", single("m.keras", squeezed), "hf", checked=True),
    ]  # fmt: skip
