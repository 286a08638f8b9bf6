"""Build the ONNX graph of one step from its weights: audio or mel -> scores, embedding.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them.

Dimensions: N streams, C channels, H mel bands and W frames, both fewer after each stride.
"""

from __future__ import annotations

from satexport.bundle.contract import Contract
from satexport.frontends.nodes.preemphasis_mel import preemphasis_mel
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.efficientat.embeddings import H_CLF1, H_CLF2, M_B_L, M_SE, READ
from satexport.models.efficientat.variants import BLOCKS, BN_EPS, HEAD_BN_EPS, LAST, SCALE, Block, Variant


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    kind = contract.options.embedding
    network = _Network(g, w, kind)
    with g.role("front_end"):
        x = _features(g, variant, w, contract)
        if kind == M_B_L:
            network.read_bands(variant, x)
    x = network.convolve("00.conv", x, "patch", stride=2, activation="hardswish")
    for number, block in zip(BLOCKS, variant.blocks, strict=True):
        x = network.block(number, block, x)
    x = network.convolve(f"{LAST}.conv", x, "conv", activation="hardswish")
    network.head(variant, x)
    if network.read:
        g.op("Concat", "embedding", *network.read, axis=1)
    return g.finish(contract)


def _features(g: Writer, variant: Variant, w: Weights, contract: Contract) -> str:
    """Write the nodes from the graph's input to the input of the first convolution, [N, 1, H, W]."""
    x, mel = contract.input.name, variant.mel
    shift, raised = float(w["mel.shift"]), float(w["mel.raised"])
    if contract.options.input == "audio":
        x = preemphasis_mel(g, mel, variant.window_samples, x, raised)
    else:
        shift += raised
    if shift:
        x = g.op("Add", "mel/shifted", x, g.scalar("mel.shift", shift))
    if w["mel.scale"] != 1:
        x = g.op("Mul", "mel/scaled", x, g.scalar("mel.scale", float(w["mel.scale"])))
    return g.reshape("mel/map", x, -1, 1, mel.bands, variant.frames)


class _Network:
    """Writes convolutions, blocks, the head, and the parts of an embedding of this kind."""

    def __init__(self, g: Writer, w: Weights, kind: str) -> None:
        self.g, self.w, self.kind = g, w, kind
        self.read: list[str] = []  # what the embedding consists of, [N, ...] each

    def read_bands(self, variant: Variant, x: str) -> None:
        """Read the mean over time of the normalised log-mel, from the input of the first convolution, which
        does not have its scale any more if that was folded."""
        g, scale = self.g, 1 / (SCALE * float(self.w["mel.scale"]))
        x = g.mean("mel/mean", g.reshape("mel/bands", x, -1, variant.mel.bands, variant.frames), 2)
        self.read.append(g.op("Mul", "mel/mean/scaled", x, g.scalar("mel.mean.scale", scale))
                         if abs(scale - 1) > 1e-9 else x)

    def block(self, number: int, sizes: Block, x: str) -> str:
        """Write an inverted residual block, from [N, inputs, H, W] to [N, outputs, H / stride, W / stride].
        """
        y, name, activation = x, f"{number:02d}", sizes.activation
        if sizes.expands:
            y = self.convolve(f"{name}.expand", y, "conv", activation=activation)
        y = self.convolve(f"{name}.depthwise", y, "depthwise", stride=sizes.stride, groups=sizes.expanded,
                          activation=activation)
        if sizes.bottleneck:
            y = self._squeeze(number, sizes, y)
        y = self.convolve(f"{name}.project", y, "conv")
        y = self.g.op("Add", f"{name}/out", x, y) if sizes.is_residual else y
        if self.kind == M_B_L and number in READ:
            mean = self.g.op("GlobalAveragePool", f"{name}/mean", y)
            self.read.append(self.g.reshape(f"{name}/mean/flat", mean, -1, sizes.outputs))
        return y

    def convolve(self, name: str, x: str, kind: str, stride: int = 1, groups: int = 1,
                 activation: str = "") -> str:
        """Write a convolution of this kind of role, its batch norm unless it was folded, and an
        activation."""
        g, w, weight = self.g, self.w, self.w[f"{name}.weight"]
        bias = [g.constant(f"{name}.bias", w[f"{name}.bias"])] if f"{name}.bias" in w else []
        kernel = weight.shape[2:]
        with g.role(kind, name):
            x = g.op("Conv", f"{name}/sum", x, g.constant(f"{name}.weight", weight), *bias, group=groups,
                     kernel_shape=kernel, strides=[stride, stride], pads=[kernel[0] // 2] * 4)
        if not bias:
            x = self._normalise(name, x, BN_EPS)
        if activation == "relu":
            return g.op("Relu", f"{name}/relu", x)
        return g.op("HardSwish", f"{name}/hardswish", x) if activation else x

    def head(self, variant: Variant, x: str) -> None:
        """Write the nodes from the last maps [N, C, H, W] to the graph's scores [N, classes]."""
        g, w = self.g, self.w
        x = g.reshape(self._name(H_CLF1, "pooled/flat"), g.op("GlobalAveragePool", "pooled", x), -1,
                      variant.last_channels)
        if variant.head == "mlp":
            with g.role("linear", "head.hidden"):
                x = g.linear("head/hidden", x, w, "head.hidden")
            x = g.op("HardSwish", self._name(H_CLF2, "head/hardswish"), x)
        if "head.bias" in w:
            with g.role("head"):
                x = g.linear("head", x, w, "head")
        else:
            with g.role("head"):
                x = g.op("MatMul", "head/product", x, g.constant("head.weight", w["head.weight"]))
            x = self._normalise("head", x, HEAD_BN_EPS)
        g.op("Sigmoid", "scores", x)

    def _name(self, kind: str, usual: str) -> str:
        """Return the name of a value that is the embedding of this kind."""
        return "embedding" if self.kind == kind else usual

    def _squeeze(self, number: int, sizes: Block, x: str) -> str:
        """Write squeeze-and-excitation: scale each channel of [N, C, H, W] by a number in (0, 1) that depends
        on the means of all channels. Its products are convolutions, because runtimes then keep their own
        layout of the maps."""
        g, name = self.g, f"{number:02d}"
        y = self._linear(f"{name}.squeeze", g.op("GlobalAveragePool", f"{name}/pooled", x))
        if self.kind == M_SE and number in READ:
            self.read.append(g.reshape(f"{name}.squeeze/flat", y, -1, sizes.bottleneck))
        y = self._linear(f"{name}.excite", g.op("Relu", f"{name}.squeeze/relu", y))
        return g.op("Mul", f"{name}/excited", x, g.op("Sigmoid", f"{name}.excite/sigmoid", y))

    def _linear(self, name: str, x: str) -> str:
        """Write a product of a weight with the channels of [N, C, 1, 1]."""
        g, w = self.g, self.w
        weight = g.constant(f"{name}.weight", w[f"{name}.weight"].T[:, :, None, None])
        with g.role("linear", name):
            return g.op("Conv", f"{name}/sum", x, weight, g.constant(f"{name}.bias", w[f"{name}.bias"]),
                        kernel_shape=[1, 1])

    def _normalise(self, name: str, x: str, epsilon: float) -> str:
        g, w = self.g, self.w
        numbers = [g.constant(f"{name}.norm.{part}", w[f"{name}.norm.{part}"])
                   for part in ("scale", "shift", "mean", "variance")]
        return g.op("BatchNormalization", f"{name}/norm", x, *numbers, epsilon=epsilon)
