"""How the optimizers of each framework name their state."""

from __future__ import annotations

from porting.convert.table import Scalar, SlotForm

_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
_WEIGHT_DECAY = {"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.01}
_ADAM_W = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}

# google-research/bert optimization.py and zihangdai/xlnet model_utils.py: AdamWeightDecayOptimizer makes
# `X/adam_m` and `X/adam_v` by hand and corrects no bias. XLNet with weight decay 0 uses tf.train.AdamOptimizer,
# whose slots tf.train.Saver stores as `X/Adam` and `X/Adam_1` beside the two powers. The powers begin as beta and are
# multiplied after each step (tensorflow/python/training/adam.py, _finish): beta^(t + 1) after t steps.
TENSORFLOW = (
    SlotForm(
        "AdamWeightDecayOptimizer",
        {"m": "{name}/adam_m", "v": "{name}/adam_v"},
        {"step": Scalar("global_step", "int64")},
        bias_correction=False,
        defaults=_WEIGHT_DECAY,
    ),
    SlotForm(
        "AdamOptimizer",
        {"m": "{name}/Adam", "v": "{name}/Adam_1"},
        {
            "step": Scalar("global_step", "int64"),
            "beta1_power": Scalar("beta1_power", ahead=1),
            "beta2_power": Scalar("beta2_power", ahead=1),
        },
        bias_correction=True,
        epsilon_hat=True,
        defaults=_ADAM,
    ),
)

# mindspore/nn/optim/adam.py (2.10) clones the parameters under these prefixes; nn.Optimizer adds global_step and, for
# a constant rate, learning_rate. The powers begin as 1 and are multiplied before each step (Adam.construct): beta^t.
# mindspore/experimental/optim/adamw.py names its state as torch does and counts steps from 0 in int32; the optimizers
# of mindspore.mint count under the same name in float32, AdamW from -1 and Adam from 0.
MINDSPORE = (
    SlotForm(
        "AdamWeightDecay",
        {"m": "adam_m.{name}", "v": "adam_v.{name}"},
        {"step": Scalar("global_step", "int32", (1,)), "learning_rate": Scalar("learning_rate")},
        bias_correction=False,
        defaults={"betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.0},
    ),
    SlotForm(
        "Adam",
        {"m": "moment1.{name}", "v": "moment2.{name}", "vmax": "vhat.{name}"},
        {
            "step": Scalar("global_step", "int32", (1,)),
            "learning_rate": Scalar("learning_rate"),
            "beta1_power": Scalar("beta1_power"),
            "beta2_power": Scalar("beta2_power"),
        },
        bias_correction=True,
        epsilon_hat=True,
        defaults=_ADAM,
    ),
    SlotForm(
        "AdamW",
        {"m": "exp_avg.{name}", "v": "exp_avg_sq.{name}", "vmax": "max_exp_avg_sq.{name}"},
        {"step": Scalar("state_step", "int32")},
        bias_correction=True,
        defaults=_ADAM_W,
    ),
)

# torch.optim keys its state by integers: the roles' values are the keys within one parameter's state.
PYTORCH = (
    SlotForm(
        "AdamW",
        {"m": "exp_avg", "v": "exp_avg_sq", "vmax": "max_exp_avg_sq"},
        {"step": Scalar("step")},
        bias_correction=True,
        defaults=_ADAM_W,
    ),
)

# huawei-noah/Pretrained-Language-Model TinyBERT/transformer/optimization.py, after Hugging Face's early BertAdam.
# It is read; what is written is torch.optim's.
BERT_ADAM = SlotForm(
    "BertAdam",
    {"m": "next_m", "v": "next_v"},
    {"step": Scalar("step")},
    bias_correction=False,
    defaults=_WEIGHT_DECAY,
)
