"""The published sizes with their BERT-base teacher: built, loaded from converted checkpoints, trained for a step."""

import numpy as np
import pytest
from tinybert_support import FRAMEWORKS, Net, text

from porting.backends.protocol import Build
from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.model.recipes import tinybert_bert_adam
from porting_tinybert.spec import SIZES, SPEC

pytestmark = [
    pytest.mark.slow,
    pytest.mark.large,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

BUILD = Build("general_distill")


@pytest.fixture(scope="module", params=["tinybert-4-312", "tinybert-6-768"])
def released(request, tmp_path_factory):
    """A size, a checkpoint of its net in PyTorch's dialect, and the losses of two steps in PyTorch."""
    config, file = SIZES[request.param], tmp_path_factory.mktemp(request.param) / "net.safetensors"
    net = Net("pytorch", config, BUILD, tinybert_bert_adam(1e-3, 10))
    write(file, net.weights(), format="safetensors")
    return config, file, _losses(net, config)


def _losses(net, config):
    batch = text(config, seq=16)
    return [net.session.step(batch).loss for _ in range(2)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_step_of_general_distillation(framework, released, tmp_path):
    config, file, wanted = released
    net = Net(framework, config, BUILD, tinybert_bert_adam(1e-3, 10))
    dialect, like = SPEC.dialects[framework], None
    if framework == "mindspore":
        # The nets of general and of task distillation name their teacher differently: this is the one that is meant.
        like = tmp_path / "reference.ckpt"
        write(like, net.session.weights(), format="mindspore-ckpt")
    carried = file
    if dialect != "hf":
        carried = tmp_path / f"net.{dialect}"
        convert(file, carried, to=dialect, family="tinybert", like=like, config="none")
    tensors = read(carried)
    net.session.load({name: np.asarray(tensors[name].read()) for name in tensors})
    found = _losses(net, config)
    assert np.isfinite(found).all()
    assert np.allclose(found, wanted, rtol=2e-5)
