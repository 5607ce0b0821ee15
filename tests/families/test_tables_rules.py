"""The operations that follow from the tables, against what the sources say they must be."""

from itertools import permutations

import pytest

from porting.convert.registry import families
from porting.convert.rule import derive

COPY, TRANSPOSE = ("copy",), ("transpose",)


def rules(family, source, target, variant=0):
    """Steps by row key, with the default variants or those of a number."""
    steps = {}
    for _, line in families()[family].rows():
        if source in line.cells and target in line.cells:
            forms = line.cells[source], line.cells[target]
            one, two = (cells[min(variant, len(cells) - 1)].cell for cells in forms)
            steps[line.key] = derive(one, two).steps
    return steps


def transposed(family, source, target):
    return {key for key, steps in rules(family, source, target).items() if steps != COPY}


BERT_KERNELS = {
    "encoder/layer_{layer}/attention/self/{proj}/kernel",
    "encoder/layer_{layer}/attention/output/dense/kernel",
    "encoder/layer_{layer}/intermediate/dense/kernel",
    "encoder/layer_{layer}/output/dense/kernel",
    "pooler/dense/kernel",
    "cls/predictions/transform/dense/kernel",
}


@pytest.mark.parametrize("target", ["hf", "modelzoo", "mindnlp"])
def test_bert_kernels_are_transposed_square_ones_too_and_nothing_else(target):
    assert transposed("bert", "google", target) == BERT_KERNELS
    assert transposed("bert", target, "google") == BERT_KERNELS
    assert {rules("bert", "google", target)[key] for key in BERT_KERNELS} == {TRANSPOSE}


@pytest.mark.parametrize("key", ["output_weights", "cls/seq_relationship/output_weights", "cls/squad/output_weights"])
def test_bert_output_weights_are_not_transposed(key):
    for source, target in permutations(["google", "hf", "modelzoo", "mindnlp"], 2):
        assert rules("bert", source, target)[key] == COPY


@pytest.mark.parametrize("pair", list(permutations(["hf", "modelzoo", "mindnlp"], 2)), ids="-".join)
def test_bert_between_pytorch_and_mindspore_nothing_moves(pair):
    assert transposed("bert", *pair) == set()


@pytest.mark.parametrize("family", list(families()))
def test_embeddings_are_copied_in_every_direction(family):
    table = families()[family]
    for one, two in permutations([dialect.name for dialect in table.dialects], 2):
        embeddings = {key: steps for key, steps in rules(family, one, two).items() if "embedding" in key.lower()}
        assert set(embeddings.values()) == {COPY}


@pytest.mark.parametrize("family", list(families()))
def test_every_rule_has_its_inverse(family):
    inverse = {"unfold": "fold", "split": "stack", "replicate": "equal", "transpose": "transpose", "copy": "copy"}
    table = families()[family]
    for one, two in permutations([dialect.name for dialect in table.dialects], 2):
        back = rules(family, two, one)
        for key, steps in rules(family, one, two).items():
            words = [step.split()[0] for step in steps]
            assert len(words) == len(back[key])
            for word, other in zip(words, reversed([step.split()[0] for step in back[key]]), strict=True):
                assert other in (inverse.get(word), word) or inverse.get(other) == word


QKV = "encoder.layer.{layer}.attention.self.{proj}"


def test_roberta_fused_projections_are_unfolded_and_split():
    fused = rules("roberta", "fairseq_fused", "hf")
    assert fused[f"{QKV}.weight"] == ("unfold (proj hidden')", "split proj")
    assert fused[f"{QKV}.bias"] == ("unfold (proj hidden')", "split proj")
    assert rules("roberta", "hf", "fairseq_fused")[f"{QKV}.weight"] == ("stack proj", "fold (proj hidden')")


def test_roberta_fused_to_tensorflow_is_split_and_transposed():
    steps = rules("roberta", "fairseq_fused", "kit_tf")[f"{QKV}.weight"]
    assert [step.split()[0] for step in steps] == ["unfold", "split", "transpose"]
    assert transposed("roberta", "fairseq", "kit_tf") > {f"{QKV}.weight", "classifier.out_proj.weight"}


def test_roberta_separate_projections_are_copied():
    assert transposed("roberta", "fairseq", "hf") == set()
    assert transposed("roberta", "hf", "kit_ms") == set()


def test_tinybert_is_bert_with_fit_dense():
    assert transposed("tinybert", "modelzoo", "hf") == set()
    assert rules("tinybert", "modelzoo", "kit_tf")["fit_dense.weight"] == TRANSPOSE
    bert_rows = {key for key in transposed("tinybert", "modelzoo", "kit_tf") if key != "fit_dense.weight"}
    assert len(bert_rows) == len(BERT_KERNELS)


UNSTACKED = {"r_w_bias", "r_r_bias", "r_s_bias", "seg_embed"}
XLNET_TRANSPOSED = {
    "layer_{layer}/ff/layer_1/kernel",
    "layer_{layer}/ff/layer_2/kernel",
    "sequnece_summary/summary/kernel",
    "classification_{task}/logit/kernel",
    "end_logits/dense_0/kernel",
    "answer_class/dense_0/kernel",
}


@pytest.mark.parametrize("target", ["hf", "kit_ms"])
def test_xlnet_to_layers(target):
    steps = rules("xlnet", "google", target)
    for key in UNSTACKED:
        assert steps[key] == ("split layer",)
    assert {key for key, line in steps.items() if line == TRANSPOSE} == XLNET_TRANSPOSED
    for key in (
        "word_embedding/lookup_table",
        "mask_emb/mask_emb",
        "layer_{layer}/rel_attn/{kernel}/kernel",
        "lm_loss/weight",
    ):
        assert steps[key] == COPY


@pytest.mark.parametrize("source", ["hf", "kit_ms"])
def test_xlnet_to_the_stacked_original(source):
    steps = rules("xlnet", source, "google")
    for key in UNSTACKED:
        assert steps[key] == ("stack layer",)


def test_xlnet_tied_biases_are_repeated_and_must_be_equal_on_the_way_back():
    for key in ("r_w_bias", "r_r_bias", "r_s_bias"):
        assert rules("xlnet", "google", "hf", variant=1)[key] == ("replicate over layer",)
        assert rules("xlnet", "hf", "google", variant=1)[key] == ("equal over layer",)
    assert rules("xlnet", "google", "hf", variant=1)["seg_embed"] == ("split layer",)


def test_xlnet_attention_summary_has_a_reason_in_hf():
    table = families()["xlnet"]
    lines = [line for member, line in table.rows() if member.name == "attention_summary"]
    assert len(lines) == 4
    assert {line.drop for line in lines} == {"transformers' XLNet has no attention summary"}
    assert all("hf" not in line.cells for line in lines)
