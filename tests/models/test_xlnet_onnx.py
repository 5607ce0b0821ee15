"""XLNet as ONNX: checked, and run by onnxruntime on other batch sizes and lengths than were traced."""

from __future__ import annotations

import numpy as np
import pytest
from xlnet_support import build, random_batch

from porting_xlnet.config import XLNetConfig
from porting_xlnet.spec import SPEC

pytestmark = [
    pytest.mark.torch,
    pytest.mark.onnx,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TEXT = ["input_ids", "segment_ids", "input_mask"]
CASES = [
    ("classification", TEXT, {"summary_type": "attn"}),
    ("pretraining", ["input_k", "input_q", "seg_id", "perm_mask", "target_mapping"], {"mem_len": 4, "reuse_len": 3}),
    pytest.param("encoder", TEXT[:1], {"attn_type": "uni", "mem_len": 3}, marks=pytest.mark.slow),
    pytest.param("regression", TEXT[:2], {"clamp_len": 3}, marks=pytest.mark.slow),
    pytest.param("question_answering", [*TEXT, "p_mask", "cls_index"], {"end_n_top": 3}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("task", "features", "flags"), CASES)
def test_onnxruntime_computes_what_torch_computes(task, features, flags, tmp_path):
    from porting.backends.torch.export import export_onnx

    config = XLNetConfig(31, 12, 2, 3, 6, 20, untie_r=task != "regression")
    torch.manual_seed(0)
    model = SPEC.port("pytorch").build(config, build(task, **flags)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    path = tmp_path / "model.onnx"
    outputs = export_onnx(model, SPEC, task, path, features)
    onnx.checker.check_model(path, full_check=True)
    runner = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in runner.get_inputs()] == features
    for examples, seq, predict in ((2, 6, 4), (4, 17, 2)):
        batch = random_batch(config, task, batch=examples, seq=seq, predict=predict)
        given = {name: _wide(batch[name]) for name in features}
        with torch.no_grad():
            wanted = model({name: torch.from_numpy(value) for name, value in given.items()})
        for name, value in zip(outputs, runner.run(None, given), strict=True):
            np.testing.assert_allclose(value, wanted[name].numpy(), rtol=0, atol=2e-5, err_msg=name)


def _wide(value):
    return value.astype(np.int64) if value.dtype == np.int32 else value
