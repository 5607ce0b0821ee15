import torch
from torch.nn import functional

from toy_port import spec as toy


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for google, (hf, _, shape) in toy.NAMES.items():
            *path, leaf = hf.split(".")
            at = self
            for part in path:
                if not hasattr(at, part):
                    at.add_module(part, torch.nn.Module())
                at = getattr(at, part)
            at.register_parameter(leaf, torch.nn.Parameter(torch.zeros(shape), requires_grad=google != toy.FROZEN))
        self.gathered = {toy.name_in("hf", toy.GATHERED): "input_ids"}

    def forward(self, batch, taps=frozenset()):
        w = dict(self.named_parameters())
        ids, word = batch["input_ids"], toy.name_in("hf", toy.GATHERED)
        rows = functional.embedding(ids, w[word])
        if "rows." + word in batch:
            rows = rows + batch["rows." + word]
        kinds = (
            functional.one_hot(batch["segment_ids"], 2).to(torch.float32)
            @ w["bert.embeddings.token_type_embeddings.weight"]
        )
        hidden = rows + kinds + w["bert.embeddings.position_embeddings.weight"][: ids.shape[1]]
        norm = "bert.embeddings.LayerNorm."
        hidden = functional.layer_norm(hidden, (toy.HIDDEN,), w[norm + "weight"], w[norm + "bias"], 1e-12)
        if "mask.embeddings" in batch:
            hidden = hidden * batch["mask.embeddings"]
        out = {"embeddings": hidden}
        for layer in range(2):
            dense = f"bert.encoder.layer.{layer}.intermediate.dense."
            hidden = hidden + torch.tanh(hidden @ w[dense + "weight"] + w[dense + "bias"])
            out[f"layer.{layer}.output"] = hidden
        out["logits"] = hidden.mean(1) @ w["classifier.weight"].T + w["classifier.bias"]
        if "label_ids" in batch:
            out["loss"] = functional.cross_entropy(out["logits"], batch["label_ids"])
        return {name: value for name, value in out.items() if name in {"logits", "loss"} | taps}


def build(config, build):
    return Toy()
