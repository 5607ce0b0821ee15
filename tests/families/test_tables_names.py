"""Real names: of the golden files and of models that the frameworks build. Each is one row's, with its sizes."""

import json

import numpy as np
import pytest

from porting.checkpoint.registry import read

BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 3,  # RBTL3's depth
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
}
XLNET = {"vocab_size": 30, "d_model": 8, "n_layer": 2, "n_head": 2, "d_inner": 12}


def shapes(checkpoint):
    return {name: entry.shape for name, entry in checkpoint.items()}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture
def state(transformers):
    def build(name, **config):
        kind = getattr(transformers, name)
        return {key: tuple(value.shape) for key, value in kind(kind.config_class(**config)).state_dict().items()}

    return build


@pytest.mark.parametrize(
    ("file", "family", "dialect", "groups"),
    [
        ("bert_a1/bert_model.ckpt", "bert", "google", "backbone pooler mlm nsp classifier"),
        ("bert_a1/finetuned.ckpt", "bert", "google", "backbone pooler classifier"),
        ("bert_a1/finetuned_onehot.ckpt", "bert", "google", "backbone pooler classifier"),
        (
            "xlnet_b1/xlnet_model.ckpt",
            "xlnet",
            "google",
            "backbone query_stream segments lm summary attention_summary classification regression",
        ),
        ("xlnet_b1/pretrained.ckpt", "xlnet", "google", "backbone query_stream segments lm"),
        ("xlnet_b1/finetuned.ckpt", "xlnet", "google", "backbone segments summary classification"),
        ("tinybert_c1/student_gd.ckpt", "tinybert", "modelzoo", "backbone pooler"),
        ("tinybert_c1/student_after_gd.ckpt", "tinybert", "modelzoo", "backbone pooler"),
        ("tinybert_c1/student_td1.ckpt", "bert", "modelzoo", "backbone pooler classifier"),
        ("tinybert_c1/student_after_td2.ckpt", "bert", "modelzoo", "backbone pooler classifier"),
        ("tinybert_c1/teacher_cls.ckpt", "bert", "modelzoo", "backbone pooler classifier"),
        ("tinybert_c1/teacher_pretrained.ckpt", "bert", "modelzoo", "backbone pooler mlm nsp"),
    ],
)
def test_golden_checkpoints(understood, golden, file, family, dialect, groups):
    match = understood(shapes(read(golden / file)))
    assert (match.family.name, match.dialect.name) == (family, dialect)
    assert match.models[0].groups == tuple(groups.split())


@pytest.mark.parametrize("case", ["bert_a1", "xlnet_b1"])
def test_the_manifests_variables_are_the_checkpoints(golden, case):
    variables = json.loads((golden / case / "manifest.json").read_text())["variables"]
    name = "bert_model.ckpt" if case == "bert_a1" else "xlnet_model.ckpt"
    assert shapes(read(golden / case / name)) == {name: tuple(shape) for name, shape in variables}


@pytest.mark.parametrize("file", ["bert_a1/finetuned.ckpt", "xlnet_b1/finetuned.ckpt", "xlnet_b1/pretrained.ckpt"])
def test_golden_slots(understood, golden, file):
    match = understood(shapes(read(golden / file)))
    assert match.slots.form is not None
    assert match.slots.form.optimizer == "AdamWeightDecayOptimizer"
    assert match.slots.scalars == {"step": "global_step"}
    assert all({"m", "v"} <= set(roles) for roles in match.slots.roles.values())
    assert len(match.slots.roles) == sum(len(found.names) for found in match.models[0].found.values())


@pytest.mark.parametrize(
    ("net", "family", "models"),
    [
        ("BertModel", "bert", [("bert_", "")]),
        ("BertModelCLS", "bert", [("bert.bert_", "")]),
        ("BertModelNER", "bert", [("bert.bert_", "")]),
        ("TinyBertModel", "tinybert", [("tinybert_", "student")]),
        ("BertNetworkWithLoss_gd", "tinybert", [("bert.tinybert_", "student"), ("teacher.bert_", "teacher")]),
        ("BertNetworkWithLoss_td", "tinybert", [("bert.bert.bert_", "student"), ("teacher.bert.bert_", "teacher")]),
    ],
)
def test_golden_nets(understood, golden, net, family, models):
    parameters = json.loads((golden / "tinybert_c1/manifest.json").read_text())["parameters"][net]
    match = understood({name: tuple(shape) for name, shape, *_ in parameters})
    assert (match.family.name, match.dialect.name) == (family, "modelzoo")
    assert [(model.prefix("base"), model.scope.name) for model in match.models] == models


def test_a_distillation_net_has_sizes_per_model(golden, understood):
    parameters = json.loads((golden / "tinybert_c1/manifest.json").read_text())["parameters"]["BertNetworkWithLoss_gd"]
    student, teacher = understood({name: tuple(shape) for name, shape, *_ in parameters}).models
    assert student.groups == ("backbone", "pooler", "fit_dense")
    assert teacher.groups == ("backbone", "pooler")


@pytest.mark.parametrize("phase", ["gd", "td1", "td2"])
def test_golden_mindspore_slots(golden, understood, phase):
    net = json.loads((golden / "tinybert_c1/manifest.json").read_text())["parameters"]
    parameters = net["BertNetworkWithLoss_gd" if phase == "gd" else "BertNetworkWithLoss_td"]
    with np.load(golden / f"tinybert_c1/optimizer_after_{phase}.npz") as state:
        slots = {name: state[name].shape for name in state.files}
    match = understood({name: tuple(shape) for name, shape, *_ in parameters} | slots)
    assert match.slots.form is not None
    assert match.slots.form.optimizer == "AdamWeightDecay"
    assert match.slots.orphans == ()
    assert len(match.slots.roles) * 2 == len([name for name in slots if name.startswith("adam_")])


def test_the_original_tinybert_has_the_names_of_transformers(golden, understood, state):
    listed = json.loads((golden / "tinybert_c1/manifest.json").read_text())["original_pytorch"]
    bert = state("BertForPreTraining", **{**BERT, "num_hidden_layers": 2})
    sizes = bert | {"fit_dense.weight": (32, 8), "fit_dense.bias": (32,)}
    match = understood({name: sizes[name] for name in listed["parameters_TinyBertForPreTraining"]})
    assert (match.family.name, match.dialect.name) == ("tinybert", "hf")
    assert match.models[0].groups == ("backbone", "pooler", "mlm", "nsp", "fit_dense")


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("BertModel", "backbone pooler"),
        ("BertForPreTraining", "backbone pooler mlm nsp"),
        ("BertForMaskedLM", "backbone mlm"),
        ("BertForNextSentencePrediction", "backbone pooler nsp"),
        ("BertForSequenceClassification", "backbone pooler classifier"),
        ("BertForMultipleChoice", "backbone pooler classifier"),
        ("BertForTokenClassification", "backbone classifier"),
        ("BertForQuestionAnswering", "backbone squad"),
    ],
)
def test_bert_in_transformers(understood, state, kind, groups):
    match = understood(state(kind, **BERT))
    assert (match.family.name, match.dialect.name) == ("bert", "hf")
    assert match.models[0].groups == tuple(groups.split())


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("RobertaForMaskedLM", "backbone lm"),
        ("RobertaForSequenceClassification", "backbone sequence_classifier"),
        ("RobertaForMultipleChoice", "backbone pooler classifier"),
        ("RobertaForTokenClassification", "backbone classifier"),
        ("RobertaForQuestionAnswering", "backbone squad"),
    ],
)
def test_roberta_in_transformers(understood, state, kind, groups, types):
    match = understood(state(kind, **BERT, type_vocab_size=types))
    assert (match.family.name, match.dialect.name) == ("roberta", "hf")
    assert match.models[0].groups == tuple(groups.split())


def test_a_bare_roberta_is_told_from_bert_by_its_one_token_type(understood, state):
    assert understood(state("RobertaModel", **BERT, type_vocab_size=1)).family.name == "roberta"
    assert understood(state("RobertaModel", **BERT, type_vocab_size=2)).family.name == "bert"


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("XLNetModel", ""),
        ("XLNetLMHeadModel", "lm"),
        ("XLNetForSequenceClassification", "summary classification"),
        ("XLNetForMultipleChoice", "summary classification"),
        ("XLNetForTokenClassification", "tokens"),
        ("XLNetForQuestionAnswering", "squad"),
        ("XLNetForQuestionAnsweringSimple", "span"),
    ],
)
def test_xlnet_in_transformers(understood, state, kind, groups):
    match = understood(state(kind, **XLNET))
    assert (match.family.name, match.dialect.name) == ("xlnet", "hf")
    assert match.models[0].groups == ("backbone", "query_stream", "segments", *groups.split())


def test_old_spellings_and_buffers_are_read(understood, state):
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): shape
        for name, shape in state("BertForPreTraining", **BERT).items()
    }
    match = understood(old | {"bert.embeddings.position_ids": (1, 10)})
    assert (match.family.name, match.dialect.name) == ("bert", "hf")


def test_mindnlp_is_told_from_transformers_by_its_embedding_tables(understood, state):
    def renamed(name):
        for end, other in ((".weight", ".gamma"), (".bias", ".beta")):
            if name.endswith("LayerNorm" + end):
                return name.removesuffix(end) + other
        return name.replace("embeddings.weight", "embeddings.embedding_table")

    names = {renamed(name): shape for name, shape in state("BertForPreTraining", **BERT).items()}
    slots = {f"{slot}.{name}": shape for name, shape in names.items() for slot in ("adam_m", "adam_v")}
    for present in (names, names | slots | {"global_step": (1,)}):
        match = understood(present)
        assert (match.family.name, match.dialect.name) == ("bert", "mindnlp")
        assert len(match.models) == 1


QA = {
    "start_logits/dense/kernel": (32, 1),
    "start_logits/dense/bias": (1,),
    "end_logits/dense_0/kernel": (64, 32),
    "end_logits/dense_0/bias": (32,),
    "end_logits/LayerNorm/gamma": (32,),
    "end_logits/LayerNorm/beta": (32,),
    "end_logits/dense_1/kernel": (32, 1),
    "end_logits/dense_1/bias": (1,),
    "answer_class/dense_0/kernel": (64, 32),
    "answer_class/dense_0/bias": (32,),
    "answer_class/dense_1/kernel": (32, 1),
}
RACE = {"logits/dense/kernel": (32, 1), "logits/dense/bias": (1,)}


@pytest.mark.parametrize(("head", "group"), [(QA, "squad"), (RACE, "choice")])
def test_xlnet_heads_outside_the_model(understood, golden, head, group):
    match = understood(shapes(read(golden / "xlnet_b1/pretrained.ckpt")) | head)
    assert match.family.name == "xlnet"
    assert group in match.models[0].groups


@pytest.mark.parametrize("slots", [("Adam", "Adam_1"), ("adam_m", "adam_v")])
def test_xlnet_with_shared_biases_and_either_optimizer(understood, golden, slots):
    names = shapes(read(golden / "xlnet_b1/xlnet_model.ckpt"))
    for bias in ("r_w_bias", "r_r_bias", "r_s_bias"):
        names[f"model/transformer/{bias}"] = (4, 8)
    scalars = {"global_step": (), "beta1_power": (), "beta2_power": ()} if "Adam" in slots else {"global_step": ()}
    match = understood(names | {f"{name}/{slot}": shape for name, shape in names.items() for slot in slots} | scalars)
    assert match.slots.form is not None
    assert match.slots.form.bias_correction is ("Adam" in slots)


@pytest.mark.filterwarnings("ignore")
class TestMindSpore:
    @pytest.fixture(scope="class")
    def nn(self):
        return pytest.importorskip("mindspore").nn

    @pytest.mark.parametrize("kind", ["AdamWeightDecay", "Adam"])
    def test_slots_of_its_optimizers(self, nn, understood, golden, kind):
        """Names as the real optimizer gives them, on a parameter of a real name."""
        import mindspore

        weight = mindspore.Parameter(np.zeros((2, 32), np.float32), name="bert.cls2.dense.weight")
        optimizer = getattr(nn, kind)([weight])
        state = {parameter.name: tuple(parameter.shape) for parameter in optimizer.get_parameters()}
        teacher = shapes(read(golden / "tinybert_c1/teacher_pretrained.ckpt"))
        assert set(state) - set(teacher)
        match = understood(teacher | state)
        assert match.slots.form is not None
        assert match.slots.form.optimizer == kind
        assert set(match.slots.scalars) >= {"step", "learning_rate"}

    def test_state_of_loss_scaling(self, nn, understood, golden):
        update = nn.DynamicLossScaleUpdateCell(4096, 2, 1000)
        state = {parameter.name: tuple(parameter.shape) for parameter in update.get_parameters()}
        assert "current_iterator_step" in state
        teacher = shapes(read(golden / "tinybert_c1/teacher_cls.ckpt"))
        match = understood(teacher | state | {"scale_sense": (), "epoch_num": (1,)})
        assert "training" in match.models[0].groups
