"""The closed list of names that a pickle of torch may use, and what they make.

Nothing is ever imported because a file asks for it: a name in a pickle is looked up here, where every
function makes plain data, and refused if it is not found.

Reference: torch/_utils.py (`_rebuild_*`) and torch/_weights_only_unpickler.py of PyTorch 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from porting.checkpoint.dtypes import DTYPES, DType
from porting.checkpoint.torch.values import (
    STORAGES,
    TORCH_DTYPES,
    Fields,
    Global,
    Leaf,
    Mapped,
    NumpyType,
    PickleError,
    StorageRef,
    TensorView,
)

_REFUSED = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without data (device meta)",
    "_rebuild_wrapper_subclass": "a tensor subclass",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device, kept as a numpy array",
    "_reconstruct": "a numpy array",
    "TypedStorage": "a bare storage",
    "_load_from_bytes": "a tensor pickled without torch.save",
    "ComplexHalfStorage": "complex32 numbers",
    **{f"Q{name}Storage": "a quantized tensor" for name in ("Int8", "UInt8", "Int32", "UInt4x2", "UInt2x4")},
}


def resolve(module: str, name: str) -> Global | Leaf:
    """What a name in a pickle stands for.

    Raises: PickleError for every name that is not on the list, saying what it would have been.
    """
    module = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}.get(module, module)
    path = f"{module}.{name}"
    if path in CALLS or path in _TYPES:
        return Global(path)
    if module in {"torch", "torch.cuda", "torch.storage"} and name in STORAGES:
        return Global(f"torch.{name}")
    if module == "torch" and name in TORCH_DTYPES:
        return Leaf("dtype", name)
    if name in _REFUSED and module.split(".")[0] in {"torch", "numpy"}:
        raise PickleError(f"holds {_REFUSED[name]} ({path}), which is not supported")
    if module == "torch":
        raise PickleError(f"holds {path}, which is not supported")
    raise PickleError(
        f"holds {path[:120]}: a pickle of a whole module or of other objects with code in it, "
        "and code in a pickle is never run; save model.state_dict() instead"
    )


def storage(pid: object, known: dict[str, StorageRef]) -> StorageRef:
    """The storage of a persistent id `("storage", class, key, location, elements[, view])`.

    Raises: PickleError if it is not that.
    """
    if not isinstance(pid, tuple) or len(pid) not in {5, 6} or not _is(pid[0], "storage"):
        raise PickleError("a reference to something other than a storage: a pickle of a whole module?")
    kind, key, count = pid[1], pid[2], pid[4]
    if not isinstance(kind, Global) or kind.name.removeprefix("torch.") not in STORAGES:
        raise PickleError("a storage of no known class")
    if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 48:
        raise PickleError("a storage without a name or with an impossible number of elements")
    if len(pid) == 6 and pid[5] is not None:
        raise PickleError("a storage that is a view of another, as torch wrote before 0.4: load and save it again")
    name = STORAGES[kind.name.removeprefix("torch.")]
    dtype = DTYPES[name] if name else None
    ref = StorageRef(key, dtype, count * (dtype.itemsize if dtype else 1))
    if known.setdefault(key, ref).nbytes != ref.nbytes:
        raise PickleError(f"storage {key} has {known[key].nbytes} bytes in one place and {ref.nbytes} in another")
    return ref


def _is(value: object, *words: str) -> bool:
    # Asked of strings only: hashing or printing a hostile nest of tuples would take for ever.
    return isinstance(value, str) and value in words


def _integers(value: object, what: str) -> tuple[int, ...]:
    if isinstance(value, Leaf) and value.kind == "size":
        value = value.value
    if not isinstance(value, tuple) or any(type(n) is not int or not 0 <= n < 1 << 48 for n in value):
        raise PickleError(f"a tensor whose {what} is not a tuple of natural numbers")
    return value


_REPEATS = 64 << 20


def _view(store: object, dtype: DType, offset: object, shape: object, strides: object) -> TensorView:
    """The checked view: every element lies inside the storage.

    A dimension of stride 0 (torch's expand) repeats what is there; repeats count as data up to 64 MiB.
    """
    if not isinstance(store, StorageRef) or type(offset) is not int or offset < 0:
        raise PickleError("a tensor without a storage")
    sizes, steps = _integers(shape, "shape"), _integers(strides, "stride")
    if len(sizes) != len(steps) or len(sizes) > 32:
        raise PickleError(f"a tensor of {len(sizes)} dimensions and {len(steps)} strides (32 at most)")
    width = dtype.itemsize
    spread = prod(max(n, 1) for n in sizes) * width
    if spread > (max(_REPEATS, store.nbytes) if all(sizes) else 1 << 48):
        raise PickleError(f"a tensor of shape {sizes} in a storage of {store.nbytes} bytes")
    last = offset + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
    if all(sizes) and (last + 1) * width > store.nbytes:
        raise PickleError(
            f"a tensor of shape {sizes}, strides {steps} at element {offset} "
            f"ends behind its storage {store.key} of {store.nbytes} bytes"
        )
    return TensorView(store, dtype, offset, sizes, steps)


def _metadata_is_plain(metadata: object) -> None:
    if metadata:
        raise PickleError(
            "a tensor whose conjugate or negative bit is set: save it after .resolve_conj().resolve_neg()"
        )


def _rebuild_tensor(store: Any, offset: Any, shape: Any, strides: Any) -> TensorView:
    dtype = store.dtype if isinstance(store, StorageRef) else None
    return _view(store, dtype or DTYPES["uint8"], offset, shape, strides)


def _rebuild_tensor_v2(store: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorView:
    _grad, _hooks, metadata = (*rest, None)[:3]
    _metadata_is_plain(metadata)
    return _rebuild_tensor(store, offset, shape, strides)


def _rebuild_tensor_v3(store: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorView:
    _grad, _hooks, dtype, metadata = (*rest, None)[:4]
    _metadata_is_plain(metadata)
    if not isinstance(dtype, Leaf) or dtype.kind != "dtype":
        raise PickleError("a tensor without a dtype")
    return _view(store, DTYPES[TORCH_DTYPES[dtype.value]], offset, shape, strides)


def _rebuild_parameter(data: Any, _grad: Any, _hooks: Any, _state: Any = None) -> TensorView:
    if not isinstance(data, TensorView):
        raise PickleError("a parameter that is not a tensor")
    return data


def _rebuild_from_type(function: Any, kind: Any, args: Any, _state: Any) -> TensorView:
    if not isinstance(function, Global) or not function.name.startswith("torch._utils._rebuild_"):
        raise PickleError("a tensor rebuilt by something other than torch")
    if not isinstance(kind, Global) or kind.name not in _TYPES or not isinstance(args, tuple):
        raise PickleError("a tensor of a subclass")
    return CALLS[function.name](*args)  # type: ignore[no-any-return]


def _encoded(text: Any = "", encoding: Any = "latin1") -> Leaf:
    if isinstance(text, Leaf) and text.kind == "bytes":
        return text
    if not isinstance(text, str) or not _is(encoding, "latin1", "latin-1"):
        raise PickleError("bytes that are not written as latin-1 text")
    return Leaf("bytes", text.encode("latin-1"))


def _numpy_type(code: Any, *_align_and_copy: Any) -> NumpyType:
    if not isinstance(code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|c(8|16)", code):
        raise PickleError("a numpy scalar that is not a number")
    return NumpyType(code)


def _numpy_scalar(kind: Any, raw: Any) -> object:
    import numpy as np

    if not isinstance(kind, NumpyType) or not isinstance(raw, Leaf) or raw.kind != "bytes":
        raise PickleError("a numpy scalar that is not a number")
    dtype = np.dtype(kind.order + kind.code)
    if len(raw.value) != dtype.itemsize:
        raise PickleError(f"a numpy scalar of {len(raw.value)} bytes, wanted {dtype.itemsize}")
    value = np.frombuffer(raw.value, dtype)[0].item()
    return Leaf("complex", value) if isinstance(value, complex) else value


def _sized(value: Any = ()) -> Leaf:
    return Leaf("size", _integers(value, "size"))


def _set(items: Any = ()) -> Leaf:
    if not isinstance(items, list | tuple):
        raise PickleError("a set of no list")
    return Leaf("set", list(items))


def _text(kind: str) -> Callable[..., Leaf]:
    def made(value: Any, *index: Any) -> Leaf:
        if not isinstance(value, str) or any(type(n) is not int for n in index):
            raise PickleError(f"a {kind} that is not a name")
        return Leaf(kind, ":".join([value, *map(str, index)]))

    return made


def _complex(real: Any, imaginary: Any = 0.0) -> Leaf:
    if type(real) is not float or type(imaginary) is not float:
        raise PickleError("a complex number that is not two floats")
    return Leaf("complex", complex(real, imaginary))


def _mapping(*args: Any) -> Mapped:
    made = Mapped()
    for arg in args:
        if not isinstance(arg, Mapped):
            raise PickleError("a mapping built of something else")
        made.update(arg)
    return made


CALLS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch.Size": _sized,
    "torch.device": _text("device"),
    "torch.serialization._get_layout": _text("layout"),
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "argparse.Namespace": Fields,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.complex": _complex,
    "builtins.bytearray": _encoded,
    "builtins.bytes": _encoded,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
}
"""Everything that a pickle may call. All of it makes data."""

_TYPES = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})


def call(function: object, args: object) -> Any:
    """The value of `function(*args)` for a function on the list.

    Raises: PickleError if it is not there, or the arguments do not fit it.
    """
    if not isinstance(function, Global) or function.name not in CALLS or not isinstance(args, tuple):
        raise PickleError("a call of something that is not a function of torch's own format")
    try:
        return CALLS[function.name](*args)
    except PickleError:
        raise
    except (TypeError, ValueError):  # of unpacking arguments, and of text that is not Latin-1
        raise PickleError(f"arguments that {function.name} does not take") from None
