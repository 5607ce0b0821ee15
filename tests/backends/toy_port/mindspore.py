import mindspore as ms
from mindspore import mint, nn, ops

from toy_port import spec as toy


class Toy(nn.Cell):
    def __init__(self, build):
        super().__init__()
        for google, (_, name, shape) in toy.NAMES.items():
            parameter = ms.Parameter(mint.zeros(shape), name=name, requires_grad=google != toy.FROZEN)
            setattr(self, google.replace("/", "_"), parameter)
        self.layer_norm = ops.LayerNorm(-1, -1, 1e-12)
        word = toy.name_in("modelzoo", toy.GATHERED)
        self.unused = frozenset({toy.name_in("modelzoo", toy.UNUSED)})
        self.gathered = {word: "input_ids"}
        self.with_rows, self.with_masks = bool(build.extra.get("rows")), build.dropout.mode == "shared"
        self.features = ("input_ids", "segment_ids", "label_ids")
        self.features += (f"rows.{word}",) if self.with_rows else ()
        self.features += ("mask.embeddings",) if self.with_masks else ()
        self.taps = tuple(build.extra.get("taps", ()))
        self.outputs = ("logits", "loss", *self.taps)

    def construct(self, input_ids, segment_ids, label_ids, *more):
        rows = ops.gather(self.bert_embeddings_word_embeddings, input_ids, 0)
        if self.with_rows and more[0] is not None:
            rows = rows + more[0]
        kinds = ops.one_hot(segment_ids, 2, ms.Tensor(1.0), ms.Tensor(0.0))
        hidden = rows + ops.matmul(kinds, self.bert_embeddings_token_type_embeddings)
        hidden = hidden + self.bert_embeddings_position_embeddings[: input_ids.shape[1]]
        gamma, beta = self.bert_embeddings_LayerNorm_gamma, self.bert_embeddings_LayerNorm_beta
        hidden = self.layer_norm(hidden, gamma, beta)[0]
        if self.with_masks and more[-1] is not None:
            hidden = hidden * more[-1]
        embeddings = hidden
        w, b = self.bert_encoder_layer_0_intermediate_dense_kernel, self.bert_encoder_layer_0_intermediate_dense_bias
        hidden = hidden + ops.tanh(ops.matmul(hidden, w) + b)
        first = hidden
        w, b = self.bert_encoder_layer_1_intermediate_dense_kernel, self.bert_encoder_layer_1_intermediate_dense_bias
        hidden = hidden + ops.tanh(ops.matmul(hidden, w) + b)
        logits = ops.matmul(hidden.mean(1), self.output_weights.T) + self.output_bias
        loss = None
        if label_ids is not None:
            loss = ops.cross_entropy(logits, label_ids)
        taps = ()
        for name in self.taps:
            if name == "embeddings":
                taps += (embeddings,)
            elif name == "layer.0.output":
                taps += (first,)
            elif name == "layer.1.output":
                taps += (hidden,)
            else:
                taps += (None,)
        return (logits, loss, *taps)


def build(config, build):
    return Toy(build)
