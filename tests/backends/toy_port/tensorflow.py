import tensorflow as tf

from toy_port import spec as toy


class Toy(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = {
            name: tf.Variable(tf.zeros(row[2]), name=name, trainable=name != toy.FROZEN)
            for name, row in toy.NAMES.items()
        }
        self.training = False

    def __call__(self, batch, taps=frozenset()):
        w, ids = self.w, batch["input_ids"]
        rows = tf.gather(w[toy.GATHERED], ids)
        kinds = tf.one_hot(batch["segment_ids"], 2) @ w["bert/embeddings/token_type_embeddings"]
        hidden = rows + kinds + w["bert/embeddings/position_embeddings"][: ids.shape[1]]
        mean, variance = tf.nn.moments(hidden, -1, keepdims=True)
        norm = "bert/embeddings/LayerNorm/"
        hidden = (hidden - mean) * tf.math.rsqrt(variance + 1e-12) * w[norm + "gamma"] + w[norm + "beta"]
        if "mask.embeddings" in batch:
            hidden *= batch["mask.embeddings"]
        out = {"embeddings": hidden}
        for layer in range(2):
            dense = f"bert/encoder/layer_{layer}/intermediate/dense/"
            hidden += tf.tanh(hidden @ w[dense + "kernel"] + w[dense + "bias"])
            out[f"layer.{layer}.output"] = hidden
        out["logits"] = tf.reduce_mean(hidden, 1) @ tf.transpose(w["output_weights"]) + w["output_bias"]
        if "label_ids" in batch:
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label_ids"], out["logits"])
            out["loss"] = tf.reduce_mean(each)
        return {name: value for name, value in out.items() if name in {"logits", "loss"} | taps}


def build(config, build):
    return Toy()
