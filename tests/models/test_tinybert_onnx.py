"""TinyBERT as ONNX: checked, and run by onnxruntime on other batch sizes and lengths than were traced."""

import numpy as np
import pytest
from tinybert_support import TEXT, build, original_config, text

from porting_tinybert.spec import SPEC

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


@pytest.mark.parametrize(
    "task",
    [
        "classification",
        *(pytest.param(task, marks=pytest.mark.slow) for task in ("student", "teacher", "general_distill")),
    ],
)
def test_onnxruntime_computes_what_torch_computes(task, tmp_path):
    from porting.backends.torch.export import export_onnx

    config, path = original_config(), tmp_path / "model.onnx"
    torch.manual_seed(0)
    model = SPEC.port("pytorch").build(config, build(task)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    outputs = export_onnx(model, SPEC, task, path, list(TEXT))
    onnx.checker.check_model(path, full_check=True)
    runner = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [each.name for each in runner.get_outputs()] == list(outputs)
    for batch, seq in ((3, 6), (5, 17)):
        given = {name: array.astype(np.int64) for name, array in text(config, batch=batch, seq=seq).items()}
        with torch.no_grad():
            wanted = model({name: torch.from_numpy(array) for name, array in given.items()})
        for name, value in zip(outputs, runner.run(None, given), strict=True):
            assert np.abs(value - wanted[name].numpy()).max() < 2e-5, name
