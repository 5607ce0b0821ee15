"""XLNet in MindSpore, equal to zihangdai/xlnet modeling.py, with the kit's own names (kit_ms)."""

from __future__ import annotations

from porting.backends.protocol import Build
from porting.errors import UsageError
from porting_xlnet.config import XLNetConfig
from porting_xlnet.mindspore_heads import Classification, Encoder, Pretraining, Regression
from porting_xlnet.mindspore_model import XLNet
from porting_xlnet.mindspore_spans import QuestionAnswering
from porting_xlnet.spec import settled

TASKS: dict[str, type[XLNet]] = {
    "encoder": Encoder,
    "pretraining": Pretraining,
    "classification": Classification,
    "regression": Regression,
    "question_answering": QuestionAnswering,
}


def build(config: XLNetConfig, build: Build) -> XLNet:
    """A model of the task, its parameters drawn as the original draws them. Raises: UsageError."""
    if build.compute == "bfloat16" and build.device.startswith("cpu"):
        raise UsageError("compute bfloat16: MindSpore has no kernels for it on the CPU; float32 and float16 it has")
    return TASKS[build.task](settled(config, build), build)
