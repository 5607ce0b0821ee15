"""XLNet-large, 24 layers of 1024: built, loaded from a converted checkpoint, run and trained one step."""

import gc

import numpy as np
import pytest
from xlnet_support import FRAMEWORKS, build, random_batch, session

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.model.recipes import xlnet_pretrain
from porting_xlnet.config import SIZES
from porting_xlnet.spec import SPEC

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CONFIG = SIZES["xlnet-large"]
TASK = "pretraining"
LOSSES: dict[str, tuple[float, float]] = {}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights under transformers' names, drawn as XLNet's are."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from safetensors.numpy import save_file

    with torch.device("meta"):
        model = transformers.XLNetLMHeadModel(transformers.XLNetConfig(ff_activation="gelu_new", mem_len=0))
    random = np.random.default_rng(0)
    tensors = {}
    for name, parameter in model.named_parameters():
        drawn = np.float32(0.02) * random.standard_normal(tuple(parameter.shape), np.float32)
        tensors[name] = drawn + np.float32(name.endswith("norm.weight"))
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_large_is_loaded_run_and_trained(framework, checkpoint, tmp_path, record_property):
    converted = tmp_path / "converted.safetensors"
    convert(
        checkpoint, converted, to=SPEC.dialects[framework], source_dialect="hf", format="safetensors", config="none"
    )
    recipe = xlnet_pretrain(1e-4, 10, 0, weight_decay=0.01)
    opened = session(framework, CONFIG, build(TASK), recipe)
    stored = read(converted)
    opened.load({name: np.asarray(stored[name].read()) for name in opened.parameters})
    assert sum(int(np.prod(shape)) for shape in opened.parameters.values()) == 360_300_800
    batch = random_batch(CONFIG, TASK, batch=1, seq=64, predict=10)
    before = float(opened.forward(batch)["loss"])
    step = opened.step(batch)
    after = float(opened.forward(batch)["loss"])
    record_property("losses", f"{before:.6f} {after:.6f}")
    assert step.loss == pytest.approx(before, rel=1e-5)
    assert after < before
    LOSSES[framework] = before, after
    assert list(LOSSES.values()) == [pytest.approx(LOSSES[framework], rel=1e-4)] * len(LOSSES)
    del opened, stored
    gc.collect()
