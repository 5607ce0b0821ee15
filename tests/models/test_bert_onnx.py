"""BERT and RoBERTa as ONNX: checked, and run by onnxruntime on other batch sizes and lengths than were traced."""

from __future__ import annotations

import numpy as np
import pytest

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting_bert.config import BertConfig
from porting_bert.spec import ROBERTA, SPEC

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

TEXT = ["input_ids", "input_mask", "segment_ids"]
CASES = [
    (SPEC, "pretraining", [*TEXT, "masked_lm_positions"]),
    (ROBERTA, "mlm", TEXT[:2]),
    pytest.param(SPEC, "encoder", TEXT, marks=pytest.mark.slow),
    pytest.param(SPEC, "classification", TEXT[:2], marks=pytest.mark.slow),
    pytest.param(SPEC, "question_answering", TEXT, marks=pytest.mark.slow),
    pytest.param(ROBERTA, "classification", TEXT[:1], marks=pytest.mark.slow),
]


def made(spec, task):
    config = BertConfig(31, 12, 2, 3, 20, max_position_embeddings=40, pad_token_id=3, model_type=spec.name)
    torch.manual_seed(0)
    built = spec.port("pytorch").build(config, Build(task, 3)).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return built


@pytest.mark.parametrize(("spec", "task", "features"), CASES, ids=lambda value: getattr(value, "name", None))
def test_onnxruntime_computes_what_torch_computes(spec, task, features, tmp_path):
    from porting.backends.torch.export import export_onnx

    model = made(spec, task)
    path = tmp_path / "model.onnx"
    outputs = export_onnx(model, spec, task, path, features)
    onnx.checker.check_model(path, full_check=True)
    runner = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in runner.get_inputs()] == features
    assert [each.name for each in runner.get_outputs()] == list(outputs)
    assert all(isinstance(length, str) for each in runner.get_inputs() for length in each.shape)
    random = np.random.default_rng(0)
    for batch, seq in ((1, 4), (5, 17)):
        ends = {"input_mask": 2, "segment_ids": 2, "masked_lm_positions": seq}
        shapes = {"masked_lm_positions": (batch, 2)}
        given = {name: random.integers(0, ends.get(name, 31), shapes.get(name, (batch, seq))) for name in features}
        with torch.no_grad():
            wanted = model({name: torch.tensor(value) for name, value in given.items()})
        for name, value in zip(outputs, runner.run(None, given), strict=True):
            np.testing.assert_allclose(value, wanted[name].numpy(), rtol=0, atol=2e-5, err_msg=name)


def test_features_that_do_not_fit_are_refused(tmp_path):
    from porting.backends.torch.export import export_onnx

    model = made(SPEC, "pretraining")
    with pytest.raises(UsageError, match="no feature perm_mask; there are input_ids"):
        export_onnx(model, SPEC, "pretraining", tmp_path / "m.onnx", ["input_ids", "perm_mask"])
    with pytest.raises(UsageError, match="cannot be exported without masked_lm_positions"):
        export_onnx(model, SPEC, "pretraining", tmp_path / "m.onnx", ["input_ids"])
