"""Converted checkpoints, loaded by the frameworks, compute what the originals computed."""

import json

import numpy as np
import pytest

from porting.checkpoint.registry import read
from porting.convert.convert import convert
from porting.errors import MismatchError

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def assert_identical(one, two):
    one, two = read(one), read(two)
    assert set(one) == set(two)
    for name in one:
        assert one[name].shape == two[name].shape, name
        assert one[name].dtype == two[name].dtype, name
        assert np.asarray(one[name].read()).tobytes() == np.asarray(two[name].read()).tobytes(), name


def tolerance(folder):
    return json.loads((folder / "manifest.json").read_text())["suggested_tolerances"]["forward_abs"]


def load(model, file, *, missing=(), unexpected=()):
    from safetensors.torch import load_file

    result = model.load_state_dict(load_file(file), strict=False)
    tied = set(model._tied_weights_keys or {})
    assert set(result.missing_keys) - tied == set(missing)
    assert set(result.unexpected_keys) == set(unexpected)
    model.tie_weights()
    return model.eval()


class TestBert:
    @pytest.fixture(scope="class")
    def converted(self, golden, tmp_path_factory):
        folder = tmp_path_factory.mktemp("bert")
        convert(golden / "bert_a1/bert_model.ckpt", folder / "model.safetensors", to="hf")
        return folder / "model.safetensors"

    @pytest.fixture(scope="class")
    def config(self, golden, transformers):
        values = json.loads((golden / "bert_a1/bert_config.json").read_text())
        return transformers.BertConfig(**{**values, "hidden_act": "gelu_new", "layer_norm_eps": 1e-12}, num_labels=3)

    @pytest.fixture(scope="class")
    def batch(self, golden, torch):
        with np.load(golden / "bert_a1/inputs.npz") as stored:
            inputs = {
                name: torch.from_numpy(stored[name]).long() for name in stored.files if name != "masked_lm_weights"
            }
        return inputs, {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["input_mask"],
            "token_type_ids": inputs["segment_ids"],
        }

    def test_pretraining_outputs_are_googles(self, golden, converted, config, batch, torch, transformers):
        inputs, features = batch
        wanted = np.load(golden / "bert_a1/outputs.npz")
        model = load(
            transformers.BertForPreTraining(config), converted, unexpected=["classifier.weight", "classifier.bias"]
        )
        with torch.no_grad():
            found = model(**features, output_hidden_states=True)
        near = {"rtol": 0, "atol": tolerance(golden / "bert_a1")}
        np.testing.assert_allclose(found.hidden_states[0], wanted["embedding_output"], **near)
        np.testing.assert_allclose(found.hidden_states[-1], wanted["sequence_output"], **near)
        scores = found.prediction_logits.log_softmax(-1)
        picked = torch.stack([scores[i, at] for i, at in enumerate(inputs["masked_lm_positions"])]).reshape(20, -1)
        np.testing.assert_allclose(picked, wanted["masked_lm_log_probs"], **near)
        relation = found.seq_relationship_logits.log_softmax(-1)
        np.testing.assert_allclose(relation, wanted["next_sentence_log_probs"], **near)

    def test_classifier_outputs_are_googles(self, golden, converted, config, batch, torch, transformers):
        wanted = np.load(golden / "bert_a1/outputs.npz")
        heads = [name for name in read(converted) if name.startswith("cls.")]
        model = load(transformers.BertForSequenceClassification(config), converted, unexpected=heads)
        with torch.no_grad():
            found = model(**batch[1])
        np.testing.assert_allclose(found.logits, wanted["cls_logits"], rtol=0, atol=tolerance(golden / "bert_a1"))

    @pytest.mark.parametrize(
        "path", [("hf",), ("modelzoo",), ("mindnlp",), ("modelzoo", "hf", "mindnlp")], ids="-".join
    )
    def test_there_and_back_is_identical(self, golden, tmp_path, path):
        here = golden / "bert_a1/bert_model.ckpt"
        for i, dialect in enumerate(path):
            there = tmp_path / f"{i}.{dialect}.safetensors"
            convert(here, there, to=dialect, format="safetensors")
            here = there
        convert(here, tmp_path / "back.ckpt", to="google", config=golden / "bert_a1/bert_config.json")
        assert_identical(golden / "bert_a1/bert_model.ckpt", tmp_path / "back.ckpt")

    def test_a_reference_with_tied_copies_gets_them(self, golden, tmp_path, config, torch, transformers):
        model = transformers.BertForPreTraining(config)
        torch.save(model.state_dict(), tmp_path / "reference.bin")
        ledger = convert(
            golden / "bert_a1/bert_model.ckpt",
            tmp_path / "out.bin",
            to="hf",
            like=tmp_path / "reference.bin",
            allow_unexpected=["classifier.*"],
        )
        assert len(ledger.tensors) == len(model.state_dict())
        model.load_state_dict(torch.load(tmp_path / "out.bin", weights_only=True), strict=True)
        copies = model.cls.predictions.decoder.weight, model.bert.embeddings.word_embeddings.weight
        assert torch.equal(*copies)

    @pytest.mark.parametrize("square", ["vocab", "positions", "inner", "all"])
    def test_square_weights_are_right_by_the_table(self, tmp_path, transformers, torch, square):
        sizes = {"vocab_size": 30, "max_position_embeddings": 10, "intermediate_size": 12}
        keys = {"vocab": ["vocab_size"], "positions": ["max_position_embeddings"], "inner": ["intermediate_size"]}
        sizes |= dict.fromkeys(keys.get(square, list(sizes)), 8)
        torch.manual_seed(1)
        config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, **sizes)
        model = transformers.BertForPreTraining(config)
        model.save_pretrained(tmp_path / "model")
        convert(tmp_path / "model/model.safetensors", tmp_path / "bert.ckpt", to="google")
        google = read(tmp_path / "bert.ckpt")
        table = model.bert.embeddings.word_embeddings.weight.detach().numpy()
        kernel = model.bert.encoder.layer[0].attention.self.query.weight.detach().numpy()
        inner = model.bert.encoder.layer[0].intermediate.dense.weight.detach().numpy()
        assert np.array_equal(google["bert/embeddings/word_embeddings"].read(), table)
        assert np.array_equal(google["bert/encoder/layer_0/attention/self/query/kernel"].read(), kernel.T)
        assert np.array_equal(google["bert/encoder/layer_0/intermediate/dense/kernel"].read(), inner.T)
        weights = model.cls.seq_relationship.weight.detach().numpy()
        assert np.array_equal(google["cls/seq_relationship/output_weights"].read(), weights)


class TestXLNet:
    @pytest.fixture(scope="class")
    def converted(self, golden, tmp_path_factory):
        folder = tmp_path_factory.mktemp("xlnet")
        convert(golden / "xlnet_b1/xlnet_model.ckpt", folder / "model.safetensors", to="hf")
        return folder / "model.safetensors"

    @pytest.fixture(scope="class")
    def config(self, golden, transformers):
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

    @pytest.fixture(scope="class")
    def stored(self, golden):
        return np.load(golden / "xlnet_b1/inputs.npz"), np.load(golden / "xlnet_b1/outputs.npz")

    def test_two_stream_outputs_are_the_originals(self, golden, converted, config, stored, torch, transformers):
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
        near = {"rtol": 0, "atol": tolerance(golden / "xlnet_b1")}
        query_stream = found.hidden_states[-1]  # after the content stream's of the same layer
        np.testing.assert_allclose(query_stream.transpose(0, 1), wanted["pre/output"], **near)
        np.testing.assert_allclose(torch.stack(list(found.mems)), wanted["pre/new_mems"], **near)
        target = torch.from_numpy(inputs["pre/target"]).long()
        loss = torch.nn.functional.cross_entropy(found.logits.transpose(1, 2), target, reduction="none")
        np.testing.assert_allclose(loss.transpose(0, 1), wanted["pre/lm_loss_per_token"], **near)

    def test_classifier_outputs_are_the_originals(self, golden, converted, config, stored, torch, transformers):
        inputs, wanted = stored
        model = load(transformers.XLNetForSequenceClassification(config), converted, unexpected=["lm_loss.bias"])
        with torch.no_grad():
            found = model(
                input_ids=torch.from_numpy(inputs["ft/input_ids"]).long(),
                token_type_ids=torch.from_numpy(inputs["ft/segment_ids"]).long(),
                input_mask=torch.from_numpy(inputs["ft/input_mask"]),
                use_mems=False,
            )
        near = {"rtol": 0, "atol": tolerance(golden / "xlnet_b1")}
        np.testing.assert_allclose(found.logits, wanted["ft/cls_logits"], **near)

    def test_what_transformers_lacks_is_dropped_by_name(self, golden, tmp_path):
        ledger = convert(golden / "xlnet_b1/xlnet_model.ckpt", tmp_path / "model.safetensors", to="hf")
        reasons = {line["name"].removeprefix("model/"): line["reason"] for line in ledger.dropped}
        assert len(reasons) == 9
        assert reasons["sequnece_summary/abs_attn/q/kernel"] == "transformers' XLNet has no attention summary"
        assert reasons["regression_sts-b/logit/kernel"].endswith("classification took it")

    def test_to_mindspore_and_back_is_identical(self, golden, tmp_path):
        convert(golden / "xlnet_b1/xlnet_model.ckpt", tmp_path / "xlnet.ckpt", to="kit_ms")
        convert(tmp_path / "xlnet.ckpt", tmp_path / "back", to="google", format="tf-bundle")
        assert_identical(golden / "xlnet_b1/xlnet_model.ckpt", tmp_path / "back")

    def test_a_finetuned_model_to_transformers_and_back_is_identical(self, golden, tmp_path):
        convert(golden / "xlnet_b1/finetuned.ckpt", tmp_path / "model.safetensors", to="hf")
        convert(tmp_path / "model.safetensors", tmp_path / "back", to="google", variables={"task": "mnli"})
        source, back = read(golden / "xlnet_b1/finetuned.ckpt"), read(tmp_path / "back")
        assert set(back) == {name for name in source if "adam" not in name and name != "global_step"}
        for name in back:
            assert np.array_equal(back[name].read(), source[name].read())

    def test_the_optimizer_goes_to_mindspore_and_back(self, golden, tmp_path):
        convert(golden / "xlnet_b1/finetuned.ckpt", tmp_path / "xlnet.ckpt", to="kit_ms", with_optimizer=True)
        names = set(read(tmp_path / "xlnet.ckpt"))
        assert {"adam_m.transformer.layer.2.rel_attn.r_w_bias", "adam_v.lm_loss.bias", "global_step"} & names
        convert(tmp_path / "xlnet.ckpt", tmp_path / "back", to="google", with_optimizer=True)
        assert_identical(golden / "xlnet_b1/finetuned.ckpt", tmp_path / "back")

    def test_a_regression_head_alone_goes_into_the_one_head(self, golden, tmp_path):
        source = self._without(golden, tmp_path, "classification_", "abs_attn", "summary_bias")
        ledger = convert(source, tmp_path / "model.safetensors", to="hf", source_dialect="google")
        assert ledger.dropped == ()
        head = read(golden / "xlnet_b1/xlnet_model.ckpt")["model/regression_sts-b/logit/kernel"].read()
        assert np.array_equal(read(tmp_path / "model.safetensors")["logits_proj.weight"].read(), head.T)

    def test_shared_biases_come_back_from_a_config_without_untie_r(self, golden, tmp_path):
        source = self._without(golden, tmp_path, "sequnece_summary", "_mnli", "_sts-b", shared=True)
        config = tmp_path / "xlnet_config.json"
        values = json.loads((golden / "xlnet_b1/xlnet_config.json").read_text())
        config.write_text(json.dumps(values | {"untie_r": False}))
        convert(source, tmp_path / "model.safetensors", to="hf", source_dialect="google", config=config)
        layers = [
            read(tmp_path / "model.safetensors")[f"transformer.layer.{i}.rel_attn.r_w_bias"].read() for i in range(3)
        ]
        assert all(np.array_equal(layer, layers[0]) for layer in layers)
        convert(tmp_path / "model.safetensors", tmp_path / "back.npz", to="google", config=config, format="npz")
        assert_identical(source, tmp_path / "back.npz")

    def test_different_biases_do_not_become_shared(self, golden, tmp_path):
        convert(golden / "xlnet_b1/pretrained.ckpt", tmp_path / "model.safetensors", to="hf", config="none")
        config = tmp_path / "xlnet_config.json"
        config.write_text(json.dumps({"untie_r": False}))
        with pytest.raises(MismatchError, match=r"r_w_bias.*differ"):
            convert(tmp_path / "model.safetensors", tmp_path / "back", to="google", config=config)

    @staticmethod
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


class TestRoberta:
    @pytest.fixture(scope="class")
    def model(self, torch, transformers):
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

    @pytest.fixture(scope="class")
    def saved(self, model, tmp_path_factory):
        folder = tmp_path_factory.mktemp("roberta")
        model.save_pretrained(folder)
        return folder / "model.safetensors"

    @pytest.mark.parametrize(
        ("dialect", "kind"),
        [("fairseq", "torch"), ("fairseq_fused", "torch"), ("kit_tf", "tf-bundle"), ("kit_ms", "mindspore-ckpt")],
    )
    def test_there_and_back_is_identical_and_computes_the_same(
        self, model, saved, tmp_path, torch, transformers, dialect, kind
    ):
        convert(saved, tmp_path / "there", to=dialect, format=kind)
        ledger = convert(tmp_path / "there", tmp_path / "back.safetensors", to="hf")
        assert (ledger.family, ledger.source.dialect) == ("roberta", dialect)
        assert_identical(saved, tmp_path / "back.safetensors")
        other = load(transformers.RobertaForMaskedLM(model.config), tmp_path / "back.safetensors")
        ids = torch.arange(3, 15).reshape(2, 6)
        with torch.no_grad():
            assert torch.equal(other(ids).logits, model(ids).logits)

    def test_fairseq_has_what_its_strict_loader_wants(self, saved, tmp_path, torch):
        convert(saved, tmp_path / "model.pt", to="fairseq_fused")
        state = torch.load(tmp_path / "model.pt", weights_only=True)
        assert torch.equal(state["decoder.lm_head.weight"], state["decoder.sentence_encoder.embed_tokens.weight"])
        source = read(saved)
        fused = state["decoder.sentence_encoder.layers.1.self_attn.in_proj_weight"].numpy()
        parts = [source[f"roberta.encoder.layer.1.attention.self.{p}.weight"].read() for p in ("query", "key", "value")]
        assert np.array_equal(fused, np.concatenate(parts))

    def test_token_types_that_are_not_zero_stay_out_of_fairseq(self, model, tmp_path, torch, transformers):
        other = transformers.RobertaForMaskedLM(model.config)
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.roberta.embeddings.token_type_embeddings.weight[0, 3] = 1
        other.save_pretrained(tmp_path)
        with pytest.raises(MismatchError, match=r"token_type_embeddings\.weight: is not zero"):
            convert(tmp_path / "model.safetensors", tmp_path / "model.pt", to="fairseq")

    def test_a_classification_head_keeps_its_name(self, model, tmp_path, transformers):
        classifier = transformers.RobertaForSequenceClassification(model.config)
        classifier.roberta.embeddings.token_type_embeddings.weight.data.zero_()
        classifier.save_pretrained(tmp_path)
        convert(tmp_path / "model.safetensors", tmp_path / "a.pt", to="fairseq", variables={"head": "mnli"})
        assert "classification_heads.mnli.out_proj.weight" in read(tmp_path / "a.pt")
        convert(tmp_path / "a.pt", tmp_path / "b.pt", to="fairseq_fused")
        assert "classification_heads.mnli.out_proj.weight" in read(tmp_path / "b.pt")
        convert(tmp_path / "b.pt", tmp_path / "back.safetensors", to="hf")
        assert_identical(tmp_path / "model.safetensors", tmp_path / "back.safetensors")


class TestTinyBert:
    @pytest.mark.parametrize(
        "file", ["student_gd", "student_td1", "student_after_td2", "teacher_cls", "teacher_pretrained"]
    )
    @pytest.mark.parametrize("dialect", ["hf", "tensorflow"])
    def test_there_and_back_is_identical(self, golden, tmp_path, file, dialect):
        source = golden / f"tinybert_c1/{file}.ckpt"
        ledger = convert(source, tmp_path / "there.npz", to=dialect, format="npz")
        convert(tmp_path / "there.npz", tmp_path / "back.ckpt", to="modelzoo", family=ledger.family)
        assert_identical(source, tmp_path / "back.ckpt")

    @pytest.mark.parametrize("net", ["BertNetworkWithLoss_gd", "BertNetworkWithLoss_td"])
    @pytest.mark.parametrize("dialect", ["hf", "kit_tf"])
    def test_a_net_of_teacher_and_student(self, golden, tmp_path, net, dialect):
        parameters = json.loads((golden / "tinybert_c1/manifest.json").read_text())["parameters"][net]
        random = np.random.default_rng(3)
        arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape, *_ in parameters}
        np.savez(tmp_path / "net.npz", **arrays)
        convert(tmp_path / "net.npz", tmp_path / "there.npz", to=dialect, format="npz", config="none")
        there = read(tmp_path / "there.npz")
        table = "word_embeddings" if dialect == "kit_tf" else "word_embeddings.weight"
        assert sorted(there[name].shape for name in there if name.endswith(table)) == [(97, 20), (97, 32)]
        kernel = there["fit_dense/kernel"].read().T if dialect == "kit_tf" else there["fit_dense.weight"].read()
        assert np.array_equal(kernel, arrays["fit_dense.weight"])
        convert(tmp_path / "there.npz", tmp_path / "back.npz", to="modelzoo", format="npz", like=tmp_path / "net.npz")
        assert_identical(tmp_path / "net.npz", tmp_path / "back.npz")

    def test_the_student_in_transformers_computes_what_mindspore_computed(self, golden, tmp_path, torch, transformers):
        folder = golden / "tinybert_c1"
        values = json.loads((folder / "manifest.json").read_text())["student_config"]
        convert(folder / "student_gd.ckpt", tmp_path / "model.safetensors", to="hf", config="none", prefix="")
        keys = (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        )
        config = transformers.BertConfig(
            **{key: values[key] for key in keys},
            hidden_act="gelu_new",
            layer_norm_eps=1e-7,
            hidden_dropout_prob=0,
            attention_probs_dropout_prob=0,
        )
        model = load(transformers.BertModel(config), tmp_path / "model.safetensors")
        inputs, wanted = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
        with torch.no_grad():
            found = model(
                input_ids=torch.from_numpy(inputs["input_ids"]).long(),
                attention_mask=torch.from_numpy(inputs["input_mask"]).long(),
                token_type_ids=torch.from_numpy(inputs["segment_ids"]).long(),
            )
        near = {"rtol": 0, "atol": tolerance(folder)}
        np.testing.assert_allclose(found.pooler_output, wanted["student/pooled_output"], **near)
        sequence = wanted["student/sequence_output"].reshape(found.last_hidden_state.shape)
        np.testing.assert_allclose(found.last_hidden_state, sequence, **near)
