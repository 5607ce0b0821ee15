"""XLNet converted from the original's checkpoint computes what the original computed."""

import json

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.errors import MismatchError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def converted(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("xlnet")
    convert(golden / "xlnet_b1/xlnet_model.ckpt", folder / "model.safetensors", to="hf")
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def config(golden, transformers):
    values = json.loads((golden / "xlnet_b1/xlnet_config.json").read_text())
    return transformers.XLNetConfig(
        vocab_size=values["n_token"],
        d_model=values["d_model"],
        n_layer=values["n_layer"],
        n_head=values["n_head"],
        d_inner=values["d_inner"],
        ff_activation="gelu_new",  # the original's gelu is the tanh form
        untie_r=values["untie_r"],
        mem_len=12,
        reuse_len=8,
        dropout=0,
        summary_last_dropout=0,
        num_labels=3,
    )


@pytest.fixture(scope="module")
def stored(golden):
    return np.load(golden / "xlnet_b1/inputs.npz"), np.load(golden / "xlnet_b1/outputs.npz")


def test_two_stream_outputs_are_the_originals(converted, config, stored, torch, transformers, load, near):
    inputs, wanted = stored
    heads = [name for name in read(converted) if name.startswith(("sequence_summary", "logits_proj"))]
    model = load(transformers.XLNetLMHeadModel(config), converted, unexpected=heads)
    with torch.no_grad():
        found = model(
            input_ids=torch.from_numpy(inputs["pre/input_k"]).long(),
            token_type_ids=torch.from_numpy(inputs["pre/seg_id"]).long(),
            perm_mask=torch.from_numpy(inputs["pre/perm_mask"]),
            target_mapping=torch.from_numpy(inputs["pre/target_mapping"]),
            mems=list(torch.from_numpy(inputs["mems"])),
            use_mems=True,
            output_hidden_states=True,
        )
    query_stream = found.hidden_states[-1]  # after the content stream's of the same layer
    np.testing.assert_allclose(query_stream.transpose(0, 1), wanted["pre/output"], **near("xlnet_b1"))
    np.testing.assert_allclose(torch.stack(list(found.mems)), wanted["pre/new_mems"], **near("xlnet_b1"))
    target = torch.from_numpy(inputs["pre/target"]).long()
    loss = torch.nn.functional.cross_entropy(found.logits.transpose(1, 2), target, reduction="none")
    np.testing.assert_allclose(loss.transpose(0, 1), wanted["pre/lm_loss_per_token"], **near("xlnet_b1"))


def test_classifier_outputs_are_the_originals(converted, config, stored, torch, transformers, load, near):
    inputs, wanted = stored
    model = load(transformers.XLNetForSequenceClassification(config), converted, unexpected=["lm_loss.bias"])
    with torch.no_grad():
        found = model(
            input_ids=torch.from_numpy(inputs["ft/input_ids"]).long(),
            token_type_ids=torch.from_numpy(inputs["ft/segment_ids"]).long(),
            input_mask=torch.from_numpy(inputs["ft/input_mask"]),
            use_mems=False,
        )
    np.testing.assert_allclose(found.logits, wanted["ft/cls_logits"], **near("xlnet_b1"))


def test_what_transformers_lacks_is_dropped_by_name(golden, tmp_path):
    ledger = convert(golden / "xlnet_b1/xlnet_model.ckpt", tmp_path / "model.safetensors", to="hf")
    reasons = {line["name"].removeprefix("model/"): line["reason"] for line in ledger.dropped}
    assert len(reasons) == 9
    assert reasons["sequnece_summary/abs_attn/q/kernel"] == "transformers' XLNet has no attention summary"
    assert reasons["regression_sts-b/logit/kernel"].endswith("classification took it")


def test_to_mindspore_and_back_is_identical(golden, tmp_path, identical):
    convert(golden / "xlnet_b1/xlnet_model.ckpt", tmp_path / "xlnet.ckpt", to="kit_ms")
    convert(tmp_path / "xlnet.ckpt", tmp_path / "back", to="google", format="tf-bundle")
    identical(golden / "xlnet_b1/xlnet_model.ckpt", tmp_path / "back")


def test_a_finetuned_model_to_transformers_and_back_is_identical(golden, tmp_path):
    convert(golden / "xlnet_b1/finetuned.ckpt", tmp_path / "model.safetensors", to="hf")
    convert(tmp_path / "model.safetensors", tmp_path / "back", to="google", variables={"task": "mnli"})
    source, back = read(golden / "xlnet_b1/finetuned.ckpt"), read(tmp_path / "back")
    assert set(back) == {name for name in source if "adam" not in name and name != "global_step"}
    for name in back:
        assert np.array_equal(back[name].read(), source[name].read())


def test_the_optimizer_goes_to_mindspore_and_back(golden, tmp_path, identical):
    convert(golden / "xlnet_b1/finetuned.ckpt", tmp_path / "xlnet.ckpt", to="kit_ms", with_optimizer=True)
    names = set(read(tmp_path / "xlnet.ckpt"))
    assert {"adam_m.transformer.layer.2.rel_attn.r_w_bias", "adam_v.lm_loss.bias", "global_step"} & names
    convert(tmp_path / "xlnet.ckpt", tmp_path / "back", to="google", with_optimizer=True)
    identical(golden / "xlnet_b1/finetuned.ckpt", tmp_path / "back")


def test_a_regression_head_alone_goes_into_the_one_head(golden, tmp_path):
    source = _without(golden, tmp_path, "classification_", "abs_attn", "summary_bias")
    ledger = convert(source, tmp_path / "model.safetensors", to="hf", source_dialect="google")
    assert ledger.dropped == ()
    head = read(golden / "xlnet_b1/xlnet_model.ckpt")["model/regression_sts-b/logit/kernel"].read()
    assert np.array_equal(read(tmp_path / "model.safetensors")["logits_proj.weight"].read(), head.T)


def test_shared_biases_come_back_from_a_config_without_untie_r(golden, tmp_path, identical):
    source = _without(golden, tmp_path, "sequnece_summary", "_mnli", "_sts-b", shared=True)
    config = tmp_path / "xlnet_config.json"
    values = json.loads((golden / "xlnet_b1/xlnet_config.json").read_text())
    config.write_text(json.dumps(values | {"untie_r": False}))
    convert(source, tmp_path / "model.safetensors", to="hf", source_dialect="google", config=config)
    layers = [read(tmp_path / "model.safetensors")[f"transformer.layer.{i}.rel_attn.r_w_bias"].read() for i in range(3)]
    assert all(np.array_equal(layer, layers[0]) for layer in layers)
    convert(tmp_path / "model.safetensors", tmp_path / "back.npz", to="google", config=config, format="npz")
    identical(source, tmp_path / "back.npz")


def test_different_biases_do_not_become_shared(golden, tmp_path):
    convert(golden / "xlnet_b1/pretrained.ckpt", tmp_path / "model.safetensors", to="hf", config="none")
    config = tmp_path / "xlnet_config.json"
    config.write_text(json.dumps({"untie_r": False}))
    with pytest.raises(MismatchError, match=r"r_w_bias.*differ"):
        convert(tmp_path / "model.safetensors", tmp_path / "back", to="google", config=config)


def _without(golden, folder, *parts, shared=False):
    """The golden checkpoint without some names, and with one bias for all layers if shared, as npz."""
    entries = read(golden / "xlnet_b1/xlnet_model.ckpt")
    arrays = {name: entry.read() for name, entry in entries.items() if not any(part in name for part in parts)}
    if shared:
        arrays = {
            name: array[0] if name.endswith(("r_w_bias", "r_r_bias", "r_s_bias")) else array
            for name, array in arrays.items()
        }
    np.savez(folder / "source.npz", **arrays)
    return folder / "source.npz"
