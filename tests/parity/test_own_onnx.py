"""Capture of the nodes of any ONNX graph, and the whole way from a torch model to its export."""

from __future__ import annotations

import numpy as np
import pytest

import porting
from porting.errors import FormatError, UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
from mapping_support import apart, first_apart  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from own_models import images, torch_net  # noqa: E402

pytestmark = [pytest.mark.onnx, pytest.mark.torch]

LIMIT = 1e-5
"""Relative distance of tensors that float32 arithmetic in another order of sums may bring about: 4e-7 was seen."""

WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
ROWS = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def graph(op="Relu"):
    """y = op(x W) + 1, with a branch that no output needs."""
    nodes = [
        helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.float32(1))),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node(op, ["product"], ["act"]),
        helper.make_node("Neg", ["act"], ["aside"]),
        helper.make_node("Add", ["act", "one"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def read(path):
    return porting.read_capture(path)


@pytest.fixture
def exported(tmp_path):
    """The torch model's capture, and the file that it was exported to."""
    model = torch_net()
    source = read(porting.capture(model, images(), output=tmp_path / "torch"))
    torch.onnx.export(
        model,
        (torch.from_numpy(images()),),
        str(tmp_path / "net.onnx"),
        input_names=["x"],
        dynamo=False,
        opset_version=17,
    )
    return source, tmp_path / "net.onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestTheWholeWay:
    def test_an_export_agrees(self, exported, tmp_path):
        source, file = exported
        target = read(porting.capture(file, images(), output=tmp_path / "onnx"))
        mapping = porting.propose_mapping(source, target)
        partner = {pair.source: pair.target for pair in mapping.taps.pairs}
        # The exporter folds the norm into the convolution before it, so that one's own output is in no node.
        assert partner["stem.1"] == "/stem/stem.0/Conv_output_0"
        assert {"conv", "hidden", "act", "square", "act#2"} <= set(partner)
        assert {"head", "output.logits"} & set(partner)
        assert "stem.0" in mapping.taps.unmatched["source"]
        found = apart(source, target, mapping)
        assert max(found.values()) < LIMIT
        assert sum(section == "weights" for section, _ in found) == 8

    def test_a_planted_mistake_is_found_at_its_node(self, exported, tmp_path):
        source, file = exported
        model = onnx.load(file)
        (node,) = (node for node in model.graph.node if node.name == "/square/Gemm")
        next(one for one in node.attribute if one.name == "transB").i = 0  # a square weight, untransposed
        target = read(porting.capture(model, images(), output=tmp_path / "onnx"))
        assert first_apart(source, target, porting.propose_mapping(source, target)) == "square"


class TestTaps:
    def test_every_node(self, tmp_path):
        capture = read(porting.capture(graph(), {"x": ROWS}, output=tmp_path / "c"))
        assert capture.manifest.taps == ("input.x", "product", "act", "aside", "y")
        np.testing.assert_allclose(capture.tensor("forward", "product"), ROWS @ WEIGHT, rtol=1e-6)
        np.testing.assert_array_equal(capture.tensor("weights", "w"), WEIGHT)
        assert capture.manifest.framework == "onnxruntime"

    def test_the_model_is_not_changed(self, tmp_path):
        model = graph()
        before = model.SerializeToString()
        porting.capture(model, ROWS, output=tmp_path / "c", taps=["act"])
        assert model.SerializeToString() == before

    def test_only_what_is_asked_for(self, tmp_path):
        capture = read(porting.capture(graph(), ROWS, output=tmp_path / "c", taps=["a*"]))
        assert capture.manifest.taps == ("input.x", "act", "aside")

    def test_more_nodes_than_one_run_returns(self, tmp_path):
        nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"]) for i in range(70)]
        value = helper.make_tensor_value_info
        made = helper.make_graph(
            nodes, "long", [value("t0", TensorProto.FLOAT, [2, 4])], [value("t70", TensorProto.FLOAT, [2, 4])]
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        capture = read(porting.capture(model, ROWS, output=tmp_path / "c"))
        assert capture.manifest.taps == ("input.t0", *(f"t{i}" for i in range(1, 71)))
        np.testing.assert_array_equal(capture.tensor("forward", "t69"), -ROWS)

    def test_external_data(self, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        onnx.save(graph(), folder / "m.onnx", save_as_external_data=True, size_threshold=0, location="m.data")
        capture = read(porting.capture(str(folder / "m.onnx"), ROWS, output=tmp_path / "c"))
        np.testing.assert_array_equal(capture.tensor("weights", "w"), WEIGHT)
        assert sorted(path.name for path in folder.iterdir()) == ["m.data", "m.onnx"]


class TestFaults:
    @pytest.mark.parametrize("batch", [{"z": ROWS}, (ROWS, ROWS), {"x": ROWS, "z": ROWS}])
    def test_a_batch_of_other_names(self, tmp_path, batch):
        with pytest.raises(UsageError, match="batch: the graph wants x; got"):
            porting.capture(graph(), batch, output=tmp_path / "c")

    def test_a_tap_that_there_is_not(self, tmp_path):
        with pytest.raises(UsageError, match="no module prodct; there are product"):
            porting.capture(graph(), ROWS, output=tmp_path / "c", taps=["prodct"])

    @pytest.mark.parametrize("option", [{"loss": "y"}, {"loss": "y", "gradients": True}])
    def test_gradients_are_refused(self, tmp_path, option):
        with pytest.raises(UsageError, match="onnxruntime computes no gradients"):
            porting.capture(graph(), ROWS, output=tmp_path / "c", **option)

    def test_no_model(self, tmp_path):
        with pytest.raises(FormatError, match="does not exist"):
            porting.capture(tmp_path / "none.onnx", ROWS, output=tmp_path / "c")
        (tmp_path / "bad.onnx").write_bytes(b"\xff" * 100)
        with pytest.raises(FormatError, match="is no ONNX model"):
            porting.capture(tmp_path / "bad.onnx", ROWS, output=tmp_path / "c")

    def test_what_the_runtime_says_goes_on(self, tmp_path):
        with pytest.raises(Exception, match="NotAnOperator"):
            porting.capture(graph("NotAnOperator"), ROWS, output=tmp_path / "c")
        assert read(tmp_path / "c").manifest.state == "crashed"
        with pytest.raises(Exception, match="Got invalid dimensions"):
            porting.capture(graph(), ROWS[:, :3], output=tmp_path / "d")
        assert read(tmp_path / "d").manifest.state == "crashed"
