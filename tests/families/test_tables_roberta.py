"""RoBERTa through every dialect and back is the same model."""

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.errors import MismatchError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model(torch, transformers):
    torch.manual_seed(7)
    config = transformers.RobertaConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=20,
        type_vocab_size=1,
    )
    model = transformers.RobertaForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
        model.roberta.embeddings.token_type_embeddings.weight.zero_()
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    model.save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("dialect", "kind"),
    [("fairseq", "torch"), ("fairseq_fused", "torch"), ("kit_tf", "tf-bundle"), ("kit_ms", "mindspore-ckpt")],
)
def test_there_and_back_is_identical_and_computes_the_same(
    model, saved, tmp_path, torch, transformers, dialect, kind, identical, load
):
    convert(saved, tmp_path / "there", to=dialect, format=kind)
    ledger = convert(tmp_path / "there", tmp_path / "back.safetensors", to="hf")
    assert (ledger.family, ledger.source.dialect) == ("roberta", dialect)
    identical(saved, tmp_path / "back.safetensors")
    other = load(transformers.RobertaForMaskedLM(model.config), tmp_path / "back.safetensors")
    ids = torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(other(ids).logits, model(ids).logits)


def test_fairseq_has_what_its_strict_loader_wants(saved, tmp_path, torch):
    convert(saved, tmp_path / "model.pt", to="fairseq_fused")
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert torch.equal(state["decoder.lm_head.weight"], state["decoder.sentence_encoder.embed_tokens.weight"])
    source = read(saved)
    fused = state["decoder.sentence_encoder.layers.1.self_attn.in_proj_weight"].numpy()
    parts = [source[f"roberta.encoder.layer.1.attention.self.{p}.weight"].read() for p in ("query", "key", "value")]
    assert np.array_equal(fused, np.concatenate(parts))


def test_token_types_that_are_not_zero_stay_out_of_fairseq(model, tmp_path, torch, transformers):
    other = transformers.RobertaForMaskedLM(model.config)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.roberta.embeddings.token_type_embeddings.weight[0, 3] = 1
    other.save_pretrained(tmp_path)
    with pytest.raises(MismatchError, match=r"token_type_embeddings\.weight: is not zero"):
        convert(tmp_path / "model.safetensors", tmp_path / "model.pt", to="fairseq")


def test_a_classification_head_keeps_its_name(model, tmp_path, transformers, identical):
    classifier = transformers.RobertaForSequenceClassification(model.config)
    classifier.roberta.embeddings.token_type_embeddings.weight.data.zero_()
    classifier.save_pretrained(tmp_path)
    convert(tmp_path / "model.safetensors", tmp_path / "a.pt", to="fairseq", variables={"head": "mnli"})
    assert "classification_heads.mnli.out_proj.weight" in read(tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "b.pt", to="fairseq_fused")
    assert "classification_heads.mnli.out_proj.weight" in read(tmp_path / "b.pt")
    convert(tmp_path / "b.pt", tmp_path / "back.safetensors", to="hf")
    identical(tmp_path / "model.safetensors", tmp_path / "back.safetensors")


# roberta.base as fairseq released it, and as its code has saved since.
OLD_LAYER = {"self_attn.in_proj_weight": (24, 8), "self_attn.in_proj_bias": (24,)}
NEW_LAYER = {f"self_attn.{p}_proj.{end}": shape for p in "qkv" for end, shape in (("weight", (8, 8)), ("bias", (8,)))}
LAYER = {
    "self_attn.out_proj.weight": (8, 8),
    "self_attn.out_proj.bias": (8,),
    "self_attn_layer_norm.weight": (8,),
    "self_attn_layer_norm.bias": (8,),
    "fc1.weight": (12, 8),
    "fc1.bias": (12,),
    "fc2.weight": (8, 12),
    "fc2.bias": (8,),
    "final_layer_norm.weight": (8,),
    "final_layer_norm.bias": (8,),
}
LM = {
    "lm_head.weight": (30, 8),
    "lm_head.bias": (30,),
    "lm_head.dense.weight": (8, 8),
    "lm_head.dense.bias": (8,),
    "lm_head.layer_norm.weight": (8,),
    "lm_head.layer_norm.bias": (8,),
}


def fairseq(top, norm, layer, extra):
    names = {
        f"{top}.sentence_encoder.embed_tokens.weight": (30, 8),
        f"{top}.sentence_encoder.embed_positions.weight": (12, 8),
    }
    names |= {f"{top}.sentence_encoder.{norm}.{end}": (8,) for end in ("weight", "bias")}
    for i in range(2):
        names |= {f"{top}.sentence_encoder.layers.{i}.{name}": shape for name, shape in (LAYER | layer).items()}
    return names | {f"{top}.{name}": shape for name, shape in LM.items()} | extra


HEAD = {
    "classification_heads.mnli.dense.weight": (8, 8),
    "classification_heads.mnli.dense.bias": (8,),
    "classification_heads.mnli.out_proj.weight": (3, 8),
    "classification_heads.mnli.out_proj.bias": (3,),
}


@pytest.mark.parametrize("wrapped", ["", "model."])
@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        ("fairseq_fused", fairseq("decoder", "emb_layer_norm", OLD_LAYER, HEAD)),
        ("fairseq", fairseq("decoder", "emb_layer_norm", NEW_LAYER, HEAD)),
        (
            "fairseq",
            fairseq("encoder", "layernorm_embedding", NEW_LAYER, HEAD | {"encoder.sentence_encoder.version": (1,)}),
        ),
    ],
)
def test_roberta_in_fairseq(understood, dialect, names, wrapped):
    match = understood({wrapped + name: shape for name, shape in names.items()})
    assert (match.family.name, match.dialect.name) == ("roberta", dialect)
    assert match.models[0].groups == ("backbone", "lm", "sequence_classifier")
    assert match.models[0].variables == {"head": "mnli"}
