"""One small model, CNN and MLP, by hand in three frameworks; the weights of the first are copied into the others.

The layouts are each framework's own: Keras has its images and kernels channels last, and so flattens in another order,
which the kernel of the layer after it undoes. The makers import their framework themselves.
"""

from __future__ import annotations

import numpy as np

CHANNELS, SIZE, CLASSES = 4, 8, 3


def images(seed=0, count=5):
    """(count, 3, SIZE, SIZE) float32."""
    return np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)


def torch_net():
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
            self.conv = nn.Conv2d(CHANNELS, 6, 3, stride=2, padding=0)
            self.hidden = nn.Linear(6 * 3 * 3, 16)
            self.act = nn.Tanh()
            self.square = nn.Linear(16, 16)
            self.head = nn.Linear(16, CLASSES)

        def forward(self, x):
            x = torch.relu(self.conv(self.stem(x)))
            x = self.act(self.hidden(x.flatten(1)))
            return {"logits": self.head(self.act(self.square(x))), "features": x}

    torch.manual_seed(0)
    model = Net()
    norm = model.stem[1]
    with torch.no_grad():  # as after training: a norm of ones and zeros tells nothing
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand(CHANNELS) + 0.5)
    return model.eval()


def torch_weights(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def mindspore_net(weights, *, epsilon=1e-5, slope=None):
    import mindspore as ms
    from mindspore import nn, ops

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, CHANNELS, 3, pad_mode="pad", padding=1, has_bias=True)
            self.norm1 = nn.BatchNorm2d(CHANNELS, eps=epsilon)
            self.conv2 = nn.Conv2d(CHANNELS, 6, 3, stride=2, pad_mode="valid", has_bias=True)
            self.dense1 = nn.Dense(6 * 3 * 3, 16)
            self.dense2 = nn.Dense(16, 16)
            self.dense3 = nn.Dense(16, CLASSES)
            self.tanh = nn.Tanh()

        def construct(self, x):
            x = ops.relu(self.norm1(self.conv1(x)))
            x = ops.relu(self.conv2(x))
            features = self.tanh(self.dense1(x.reshape(x.shape[0], -1)))
            if slope is not None:
                features = features * slope
            return self.dense3(self.tanh(self.dense2(features))), features

    model = Net()
    model.set_train(False)
    of = {
        "conv1.weight": "stem.0.weight", "conv1.bias": "stem.0.bias",
        "norm1.gamma": "stem.1.weight", "norm1.beta": "stem.1.bias",
        "norm1.moving_mean": "stem.1.running_mean", "norm1.moving_variance": "stem.1.running_var",
        "conv2.weight": "conv.weight", "conv2.bias": "conv.bias",
        "dense1.weight": "hidden.weight", "dense1.bias": "hidden.bias",
        "dense2.weight": "square.weight", "dense2.bias": "square.bias",
        "dense3.weight": "head.weight", "dense3.bias": "head.bias",
    }  # fmt: skip
    for parameter in model.get_parameters():
        parameter.set_data(ms.Tensor(weights[of[parameter.name]]))
    return model


def keras_net(weights, *, transposed=True, epsilon=1e-5):
    """transposed: False leaves the square kernel as PyTorch has it, which no shape betrays."""
    import keras
    from keras import layers

    x = inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(CHANNELS, 3, padding="same", name="first")(x)
    x = layers.BatchNormalization(epsilon=epsilon, name="bn")(x)
    x = layers.ReLU(name="rectified")(x)
    x = layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Flatten(name="flat")(x)
    features = layers.Dense(16, activation="tanh", name="mlp_0")(x)
    x = layers.Dense(16, activation="tanh", name="mlp_1")(features)
    logits = layers.Dense(CLASSES, name="mlp_2")(x)
    model = keras.Model(inputs, {"logits": logits, "features": features}, name="net")
    hwio = (2, 3, 1, 0)
    # The inputs of the first dense layer are (channel, row, column) in PyTorch, (row, column, channel) here.
    dense = weights["hidden.weight"].reshape(16, 6, 3, 3).transpose(2, 3, 1, 0).reshape(-1, 16)
    square = weights["square.weight"]
    values = {
        "first": (weights["stem.0.weight"].transpose(hwio), weights["stem.0.bias"]),
        "bn": [weights[f"stem.1.{name}"] for name in ("weight", "bias", "running_mean", "running_var")],
        "second": (weights["conv.weight"].transpose(hwio), weights["conv.bias"]),
        "mlp_0": (dense, weights["hidden.bias"]),
        "mlp_1": (square.T if transposed else square, weights["square.bias"]),
        "mlp_2": (weights["head.weight"].T, weights["head.bias"]),
    }
    for name, arrays in values.items():
        model.get_layer(name).set_weights([np.ascontiguousarray(array) for array in arrays])
    return model
