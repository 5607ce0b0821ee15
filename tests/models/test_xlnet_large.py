"""XLNet-large, 24 layers of 1024: built, loaded from a converted checkpoint, run and trained one step."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from xlnet_support import FRAMEWORKS, PACKAGES, build, random_batch, session

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.model.recipes import xlnet_pretrain
from porting_xlnet.config import SIZES
from porting_xlnet.spec import SPEC

pytestmark = [pytest.mark.slow, pytest.mark.large, pytest.mark.filterwarnings("ignore")]

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


def losses(framework, converted):
    """Before, during and after one step. In a process of its own, which gives its gigabytes back."""
    opened = session(framework, CONFIG, build(TASK), xlnet_pretrain(1e-4, 10, 0, weight_decay=0.01))
    stored = read(converted)
    opened.load({name: np.asarray(stored[name].read()) for name in opened.parameters})
    count = sum(int(np.prod(shape)) for shape in opened.parameters.values())
    batch = random_batch(CONFIG, TASK, batch=1, seq=64, predict=10)
    before = float(opened.forward(batch)["loss"])
    return count, before, opened.step(batch).loss, float(opened.forward(batch)["loss"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_large_is_loaded_run_and_trained(framework, checkpoint, tmp_path, record_property):
    pytest.importorskip(PACKAGES[framework])
    converted = tmp_path / "converted.safetensors"
    convert(
        checkpoint, converted, to=SPEC.dialects[framework], source_dialect="hf", format="safetensors", config="none"
    )
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        count, before, during, after = process.submit(losses, framework, converted).result()
    record_property("losses", f"{before:.6f} {after:.6f}")
    assert count == 360_300_800
    assert during == pytest.approx(before, rel=1e-5)
    assert after < before
    LOSSES[framework] = before, after
    assert list(LOSSES.values()) == [pytest.approx(LOSSES[framework], rel=1e-4)] * len(LOSSES)
