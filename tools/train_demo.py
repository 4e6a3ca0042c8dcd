"""Train the network that the package ships as its demo; running it again gives the same files.

    pip install torch==2.13.0 scikit-learn onnx python tools/train_demo.py

The data is scikit-learn's copy of the UCI digits (1,797 images of 8 x 8 pixels, values 0 to 16): 1,200 for training, of
which 128 calibrate, and 597 for evaluation. The network is a small residual CNN with a depthwise layer, whose batch
normalization is left in the graph. It is written with the ONNX helper, so that the file depends on no exporter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from torch import nn

TARGET = Path(__file__).resolve().parent.parent / "src" / "fewbit" / "demo"
TRAIN, CALIBRATION, EPOCHS, WIDTH = 1200, 128, 40, 48


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        conv = lambda i, o, k, **a: nn.Conv2d(i, o, k, padding=k // 2, bias=False, **a)  # noqa: E731
        self.convs = nn.ModuleList(
            [
                conv(1, WIDTH, 3),
                conv(WIDTH, WIDTH, 3),
                conv(WIDTH, WIDTH, 3),
                conv(WIDTH, WIDTH, 3),
                conv(WIDTH, WIDTH, 3),
                conv(WIDTH, WIDTH, 3, groups=WIDTH, stride=2),
                conv(WIDTH, 2 * WIDTH, 1),
            ]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(c.out_channels) for c in self.convs])
        self.head = nn.Linear(2 * WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layers = [nn.Sequential(c, n) for c, n in zip(self.convs, self.norms, strict=True)]
        x = layers[0](x).relu()
        for first, second in ((1, 2), (3, 4)):
            x = (x + layers[second](layers[first](x).relu())).relu()
        x = layers[6](layers[5](x).relu()).relu()
        return self.head(x.mean((2, 3)))


def train(images: np.ndarray, labels: np.ndarray) -> Digits:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    batches = EPOCHS * (len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=batches)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - 63, 64):
            part = order[start : start + 64]
            shift = [int(s) for s in torch.randint(-1, 2, (2,), generator=generator)]
            loss = nn.functional.cross_entropy(model(torch.roll(x[part], shift, (2, 3))), y[part], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: Digits) -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, tensor: torch.Tensor) -> str:
        constants.append(numpy_helper.from_array(tensor.detach().numpy().astype(np.float32), name))
        return name

    def node(op: str, inputs: list[str], name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def layer(index: int, x: str) -> str:
        conv, norm = model.convs[index], model.norms[index]
        size, name = conv.kernel_size[0], f"conv{index}"
        x = node(
            "Conv",
            [x, constant(f"{name}.weight", conv.weight)],
            name,
            group=conv.groups,
            kernel_shape=[size, size],
            pads=[size // 2] * 4,
            strides=list(conv.stride),
        )
        fields = [
            constant(f"norm{index}.{k}", getattr(norm, k)) for k in ("weight", "bias", "running_mean", "running_var")
        ]
        return node("BatchNormalization", [x, *fields], f"norm{index}", epsilon=norm.eps)

    def relu(x: str) -> str:
        return node("Relu", [x], f"{x}_relu")

    x = relu(layer(0, "image"))
    for first, second in ((1, 2), (3, 4)):
        x = relu(node("Add", [x, layer(second, relu(layer(first, x)))], f"add{second}"))
    x = relu(layer(6, relu(layer(5, x))))
    x = node("Flatten", [node("GlobalAveragePool", [x], "pool")], "flatten")
    head = [constant("head.weight", model.head.weight), constant("head.bias", model.head.bias)]
    node("Gemm", [x, *head], "scores", transB=1)
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tools/train_demo.py")
    proto.ir_version = 8
    onnx.checker.check_model(proto)
    return proto


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images = (digits.images[order, None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int64)
    model = train(images[:TRAIN], labels[:TRAIN])
    with torch.no_grad():
        right = (model(torch.from_numpy(images[TRAIN:])).argmax(1).numpy() == labels[TRAIN:]).mean()
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "digits.onnx").write_bytes(export(model).SerializeToString(deterministic=True))
    half = images.astype(np.float16)  # exact: multiples of 1/16
    np.savez_compressed(TARGET / "calibration.npz", image=half[:CALIBRATION])
    np.savez_compressed(TARGET / "evaluation.npz", image=half[TRAIN:], labels=labels[TRAIN:].astype(np.uint8))
    size = sum(p.stat().st_size for p in TARGET.glob("*.*n*"))
    print(f"top-1 on {len(labels) - TRAIN} images: {right:.4f}; {size} bytes in {TARGET}")


if __name__ == "__main__":
    main()
