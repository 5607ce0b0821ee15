"""The recipes that the originals train with, as values."""

from __future__ import annotations

from porting.model.recipe import Clip, Recipe, Schedule

_LAYER_NORM_AND_BIAS = ("LayerNorm", "layer_norm", "bias")


def bert_finetune(peak: float, steps: int, warmup: int) -> Recipe:
    """google-research/bert at eedf571, run_classifier.py, run_squad.py: optimization.create_optimizer.

    AdamWeightDecayOptimizer; the gather of the word embeddings gives IndexedSlices, which tf.clip_by_global_norm takes
    row by row.
    """
    return Recipe(
        name="bert_finetune",
        schedule=Schedule("bert", peak, steps, warmup),
        weight_decay=0.01,
        epsilon=1e-6,
        excludes=_LAYER_NORM_AND_BIAS,
        clip=Clip("global_norm", 1.0, rows="apart"),
    )


def bert_pretrain(peak: float, steps: int, warmup: int) -> Recipe:
    """google-research/bert at eedf571, run_pretraining.py: the same optimizer.

    The table is the decoder's weight too, so TensorFlow sums its gradient before the norm. Also the recipe of
    use_one_hot_embeddings, as on TPUs.
    """
    return Recipe(
        name="bert_pretrain",
        schedule=Schedule("bert", peak, steps, warmup),
        weight_decay=0.01,
        epsilon=1e-6,
        excludes=_LAYER_NORM_AND_BIAS,
        clip=Clip("global_norm", 1.0, rows="summed"),
    )


def roberta_finetune(peak: float, steps: int, warmup: int) -> Recipe:
    """facebookresearch/fairseq, examples/roberta/README.glue.md at 1ffc48f: adam, its weight decay, polynomial_decay.

    Its Adam corrects the moments and adds epsilon to the root of the raw second one (optim/adam.py), and decays all
    parameters, biases and LayerNorm too; it does not clip. Its first update has the rate of the second
    (polynomial_decay_schedule.py at 003179f), here 0. Read, not run beside it.
    """
    return Recipe(
        name="roberta_finetune",
        schedule=Schedule("xlnet", peak, steps, warmup),
        beta2=0.98,
        epsilon=1e-6,
        epsilon_with="raw",
        bias_correction=True,
        weight_decay=0.1,
        decay_form="adamw",
        names_of="hf",
        clip=Clip("none"),
    )


def xlnet_finetune(  # noqa: PLR0913 - the original's flags
    peak: float,
    steps: int,
    warmup: int,
    *,
    end_ratio: float = 0.0,
    weight_decay: float = 0.0,
    epsilon: float = 1e-8,
    clip: float = 1.0,
    layer_decay: float = 1.0,
    cosine: bool = False,
) -> Recipe:
    """zihangdai/xlnet at bbaa3a6, model_utils.get_train_op with the defaults of run_classifier.py's flags.

    With a weight decay its AdamWeightDecayOptimizer, without one tf.train.AdamOptimizer, which corrects the moments and
    adds epsilon to the raw one. include_in_weight_decay takes in the three biases that belong to no dense layer.
    """
    return Recipe(
        name="xlnet_finetune",
        schedule=_xlnet_schedule(peak, steps, warmup, end_ratio, cosine=cosine),
        weight_decay=weight_decay,
        epsilon=epsilon,
        epsilon_with="raw",
        bias_correction=weight_decay == 0,
        excludes=_LAYER_NORM_AND_BIAS,
        includes=("r_s_bias", "r_r_bias", "r_w_bias"),
        clip=Clip("global_norm", clip, rows="apart"),
        layer_decay=layer_decay,
        layer_decay_of="gradient",
    )


def xlnet_pretrain(
    peak: float,
    steps: int,
    warmup: int,
    *,
    end_ratio: float = 0.001,
    weight_decay: float = 0.0,
    epsilon: float = 1e-8,
    clip: float = 1.0,
    cosine: bool = False,
) -> Recipe:
    """zihangdai/xlnet at bbaa3a6, model_utils.get_train_op with the defaults of train_gpu.py's flags.

    The softmax shares the lookup table, so its gradient is summed before the norm.
    """
    return Recipe(
        name="xlnet_pretrain",
        schedule=_xlnet_schedule(peak, steps, warmup, end_ratio, cosine=cosine),
        weight_decay=weight_decay,
        epsilon=epsilon,
        epsilon_with="raw",
        bias_correction=weight_decay == 0,
        excludes=_LAYER_NORM_AND_BIAS,
        includes=("r_s_bias", "r_r_bias", "r_w_bias"),
        clip=Clip("global_norm", clip, rows="summed"),
    )


def _xlnet_schedule(peak: float, steps: int, warmup: int, end_ratio: float, *, cosine: bool) -> Schedule:
    return Schedule("xlnet", peak, steps, warmup, peak * end_ratio, decay="cosine" if cosine else "polynomial")


def tinybert_mindspore(
    peak: float, steps: int, warmup: int, *, end: float = 0.0, power: float = 1.0, weight_decay: float = 1e-4
) -> Recipe:
    """mindspore-ai/models research/nlp/tinybert at eab643f: BertTrainCell and BertEvaluationCell without loss scale.

    nn.AdamWeightDecay (MindSpore 2.10) over two groups of parameters by name, BertLearningRate of src/utils.py,
    nn.ClipByNorm of every gradient to 1.0.
    """
    return Recipe(
        name="tinybert_mindspore",
        schedule=Schedule("mindspore", peak, steps, warmup, end, power),
        weight_decay=weight_decay,
        epsilon=1e-6,
        excludes=("layernorm", "bias"),
        names_of="modelzoo",
        unused="decayed",
        clip=Clip("per_tensor", 1.0),
        complement="float32",
    )


def tinybert_bert_adam(
    peak: float, steps: int, *, warmup: float = 0.1, constant: bool = False, weight_decay: float = 0.01
) -> Recipe:
    """huawei-noah/Pretrained-Language-Model at 0598f02, TinyBERT/transformer/optimization.py: BertAdam.

    warmup: the share of all steps. constant: schedule `none`, of the intermediate phase of task_distill.py. Every
    gradient is clipped to 1.0 by torch.nn.utils.clip_grad_norm_.
    """
    schedule = Schedule("constant", peak) if constant else Schedule("bert_adam", peak, steps, warmup)
    return Recipe(
        name="tinybert_bert_adam",
        schedule=schedule,
        weight_decay=weight_decay,
        epsilon=1e-6,
        excludes=("bias", "LayerNorm.bias", "LayerNorm.weight"),
        names_of="hf",
        clip=Clip("per_tensor", 1.0, epsilon=1e-6),
    )


def adamw(
    peak: float, steps: int, warmup: int = 0, *, weight_decay: float = 0.01, epsilon: float = 1e-8, clip: float = 1.0
) -> Recipe:
    """torch.optim.AdamW with the linear schedule, exclusions and clipping that transformers' Trainer uses.

    Sources: torch 2.13 optim/adamw.py; transformers 5.23 trainer.py (get_decay_parameter_names: no bias, no norm),
    optimization.get_linear_schedule_with_warmup, max_grad_norm by torch.nn.utils.clip_grad_norm_.
    """
    return Recipe(
        name="adamw",
        schedule=Schedule("xlnet", peak, steps, warmup),
        weight_decay=weight_decay,
        decay_form="adamw",
        epsilon=epsilon,
        bias_correction=True,
        excludes=("bias", "LayerNorm", "layer_norm", "layernorm"),
        names_of="hf",
        clip=Clip("global_norm", clip, epsilon=1e-6),
    )
