"""Names of backends: every one is parsed and printed back; whatever is none is refused with those there are."""

from __future__ import annotations

import pytest

from porting.backends.names import ALIASES, BackendName, names
from porting.errors import UsageError

ALL = [
    "torch:cpu", "torch:cuda", "torch:npu", "tensorflow:cpu", "tensorflow:gpu", "tensorflow:npu", "mindspore:cpu",
    "mindspore:gpu", "mindspore:ascend", "onnxruntime:cpu", "onnxruntime:cuda", "onnxruntime:cann",
]  # fmt: skip


def test_there_are_the_backends_that_are_promised():
    assert list(names()) == ALL


@pytest.mark.parametrize(
    "text",
    [
        *ALL,
        *ALIASES,
        *(f"{name}@/opt/tf/bin/python" for name in ALL),
        "torch:cpu@python3.9",
        "torch:cpu@/a b/c,d@e/python",
        "npu,cube=hf32",
        "torch:npu,cube=bfloat16,overflow=infnan@/opt/py",
    ],
)
def test_a_name_is_printed_as_it_was_parsed(text):
    name = BackendName.parse(text)
    assert str(name) == text
    assert BackendName.parse(str(name)) == name
    assert hash(name) == hash(BackendName.parse(text))


def test_the_parts_of_a_name():
    name = BackendName.parse("torch:npu,cube=hf32@/opt/py")
    assert (name.framework, name.device, name.interpreter) == ("torch", "npu", "/opt/py")
    assert name.options == (("cube", "hf32"),)
    alias = BackendName.parse("npu")
    assert (alias.framework, alias.device, alias.kind) == (None, "npu", "npu")


@pytest.mark.parametrize(
    ("text", "kind", "port", "device"),
    [
        ("torch:cuda", "gpu", "pytorch", "cuda"),
        ("tensorflow:gpu", "gpu", "tensorflow", "gpu"),
        ("mindspore:ascend", "npu", "mindspore", "npu"),
        ("onnxruntime:cann", "npu", "pytorch", "cann"),
        ("tensorflow:npu", "npu", "tensorflow", "npu"),
    ],
)
def test_what_a_name_means_to_sessions(text, kind, port, device):
    name = BackendName.parse(text)
    assert (name.kind, name.port, name.session_device) == (kind, port, device)


@pytest.mark.parametrize(
    "text", ["", "torch", "torch:", ":cpu", "tpu", "torch:tpu", "Torch:cpu", "torch:ascend", "jax:cpu"]
)
def test_what_is_no_name_is_refused_with_all_there_are(text):
    with pytest.raises(UsageError, match="not known; there are") as refused:
        BackendName.parse(text)
    assert all(name in str(refused.value) for name in (*ALL, *ALIASES))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("torch:cuda:1", "takes no device number; CUDA_VISIBLE_DEVICES or ASCEND_RT_VISIBLE_DEVICES"),
        ("torch:cpu@", "wanted an interpreter after @"),
        ("npu@/opt/py", "wants its framework named: torch:npu@/opt/py"),
        ("torch:cpu,cube=hf32", "options of npu and torch:npu"),
        ("mindspore:ascend,cube=hf32", "options of npu and torch:npu"),
        ("npu,cube=int8", "cube: wanted one of float16, hf32, bfloat16, got int8"),
        ("npu,cube", "cube: wanted one of float16, hf32, bfloat16, got nothing"),
        ("npu,speed=2", "no option speed=2; there are cube, overflow"),
        ("npu,cube=hf32,cube=float16", "given twice"),
    ],
)
def test_a_name_that_contradicts_itself_says_how(text, problem):
    with pytest.raises(UsageError, match=problem):
        BackendName.parse(text)


def test_an_alias_has_no_framework_to_ask_for():
    with pytest.raises(UsageError, match="backend gpu: is an alias"):
        _ = BackendName.parse("gpu").port
