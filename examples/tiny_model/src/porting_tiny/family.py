"""The table of tiny."""

from porting.convert.table import Dialect, Family, group, row, scope

FAMILY = Family(
    name="tiny",
    dialects=(
        Dialect("tf", "tensorflow", (scope("tiny/"),), separator="/", format="tf-bundle"),
        Dialect("torch", "pytorch", (scope("tiny."),)),
    ),
    labels={"vocab": ("vocab_size",), "hidden": ("hidden_size",), "labels": ("num_labels",)},
    groups=(
        group(
            "backbone",
            row(tf="table : vocab hidden", torch="table.weight : vocab hidden"),
            row(tf="dense/kernel : hidden hidden'", torch="dense.weight : hidden' hidden"),
            row(tf="dense/bias : hidden'", torch="dense.bias : hidden'"),
            required=True,
        ),
        group(
            "head",
            row(tf="out/kernel : hidden labels", torch="out.weight : labels hidden"),
            row(tf="out/bias : labels", torch="out.bias : labels"),
        ),
    ),
)
