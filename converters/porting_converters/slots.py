"""How the optimizers of each framework name their state."""

from __future__ import annotations

from porting.convert.table import SlotForm

# google-research/bert optimization.py and zihangdai/xlnet model_utils.py: AdamWeightDecayOptimizer makes
# `X/adam_m` and `X/adam_v` by hand and corrects no bias. XLNet with weight decay 0 uses tf.train.AdamOptimizer,
# whose slots tf.train.Saver stores as `X/Adam` and `X/Adam_1` beside the two powers.
TENSORFLOW = (
    SlotForm(
        "AdamWeightDecayOptimizer",
        {"m": "{name}/adam_m", "v": "{name}/adam_v"},
        {"step": "global_step"},
        bias_correction=False,
    ),
    SlotForm(
        "AdamOptimizer",
        {"m": "{name}/Adam", "v": "{name}/Adam_1"},
        {"step": "global_step", "beta1_power": "beta1_power", "beta2_power": "beta2_power"},
        bias_correction=True,
    ),
)

# mindspore/nn/optim/adam.py (2.10) clones the parameters under these prefixes; nn.Optimizer adds global_step and, for
# a constant rate, learning_rate. mindspore/experimental/optim/adamw.py names its state as torch does.
MINDSPORE = (
    SlotForm(
        "AdamWeightDecay",
        {"m": "adam_m.{name}", "v": "adam_v.{name}"},
        {"step": "global_step", "learning_rate": "learning_rate"},
        bias_correction=False,
    ),
    SlotForm(
        "Adam",
        {"m": "moment1.{name}", "v": "moment2.{name}"},
        {
            "step": "global_step",
            "learning_rate": "learning_rate",
            "beta1_power": "beta1_power",
            "beta2_power": "beta2_power",
        },
        bias_correction=True,
    ),
    SlotForm(
        "AdamW",
        {"m": "exp_avg.{name}", "v": "exp_avg_sq.{name}"},
        {"step": "state_step"},
        bias_correction=True,
    ),
)

# torch.optim keys its state by integers: the patterns are the keys within one parameter's state.
PYTORCH = (SlotForm("AdamW", {"m": "exp_avg", "v": "exp_avg_sq"}, {"step": "step"}, bias_correction=True),)

# huawei-noah/Pretrained-Language-Model TinyBERT/transformer/optimization.py, after Hugging Face's early BertAdam.
BERT_ADAM = SlotForm("BertAdam", {"m": "next_m", "v": "next_v"}, {"step": "step"}, bias_correction=False)
