"""Build the ONNX graph of one step from its weights: audio or mel -> scores.

The graph is written node by node, so that it contains only what a device needs. The same weights give the
same bytes. It uses only standard operators and static shapes (except for the number of streams, which may be
left open), and the names of its tensors describe them.

Dimensions: N streams, F frames of the audio, T tokens of a stream, d width, h heads.
"""

from __future__ import annotations

from satexport.bundle.contract import Contract
from satexport.frontends.nodes.kaldi import kaldi_mel
from satexport.frontends.rows import KALDI_MEL_16K_POVEY as KALDI_MEL
from satexport.graph.roles import Graph
from satexport.graph.writer import Weights, Writer
from satexport.models.beats.variants import EPS, GROUPS, PATCH, ROWS, TAPS, Variant
from satexport.models.patch_graph import normalise
from satexport.models.transformer import BlockShape, BlockWriter


def build_graph(variant: Variant, w: Weights, contract: Contract) -> Graph:
    """Return the graph of one step with the contract in its metadata, checked by ONNX."""
    g = Writer(contract.opset)
    x = contract.input.name
    with g.role("front_end"):
        if contract.options.input == "audio":
            x = kaldi_mel(g, KALDI_MEL, variant.window_samples, x)
        x = normalise(g, w, x)
    x = _tokens(g, variant, w, x)
    x = _placed(g, variant, w, x)
    bias = _bias(g, variant, w)
    for layer in range(variant.size.depth):
        x = _Block(g, variant, w, layer, bias).write(x)
    _head(g, variant, w, x)
    return g.finish(contract)


def _tokens(g: Writer, variant: Variant, w: Weights, x: str) -> str:
    """Write the nodes from normalised log-mel [N, 128, F] to tokens [N * T, d]: all patches of a time, then
    those of the next. Frames behind the last whole patch are dropped."""
    x = g.slice("patch/used", x, 2, 0, variant.columns * PATCH)
    x = g.reshape("patch/grid", x, -1, ROWS, PATCH, variant.columns, PATCH)
    x = g.op("Transpose", "patch/columns", x, perm=[0, 3, 1, 2, 4])
    x = g.reshape("patch/patches", x, -1, PATCH**2)
    with g.role("patch"):
        x = g.linear("patch", x, w, "patch")
    x = g.norm("input/norm", x, w, "input", EPS)
    if "input.weight" in w:
        with g.role("linear", "input"):
            x = g.linear("input", x, w, "input")
    return x


def _placed(g: Writer, variant: Variant, w: Weights, x: str) -> str:
    """Write the nodes from tokens [N * T, d] to tokens with their positions, a convolution over the tokens of
    each stream, after a norm."""
    d, half = variant.size.width, TAPS // 2
    y = g.reshape("place/streams", x, -1, variant.tokens, d)
    y = g.op("Transpose", "place/channels", y, perm=[0, 2, 1])
    with g.role("conv", "place"):
        y = g.op("Conv", "place/product", y, *(g.constant(f"place.{kind}", w[f"place.{kind}"])
                                               for kind in ("weight", "bias")),
                 group=GROUPS, kernel_shape=[TAPS], pads=[half, half - 1])
    y = g.op("Transpose", "place/tokens", g.gelu("place/gelu", y), perm=[0, 2, 1])
    x = g.op("Add", "place/added", x, g.reshape("place/flat", y, -1, d))
    return g.norm("norm", x, w, "norm", EPS)


def _bias(g: Writer, variant: Variant, w: Weights) -> str:
    """Write the nodes that make the bias of each query for each key, [1, h, T, T], from that by distance, [h,
    2T]. Each row is the row before it, moved right by one: it begins one number earlier in a line of repeated
    distances, which is therefore cut into rows of 2T - 1 numbers, of which the first T are kept. For three
    tokens, whose distances are 0 1 2 . -2 -1 (the dot is not read):

        line   0 1 2 . -2 -1 0 1 2 . -2 -1 0 1 2 ...
        cut    0 1 2 . -2 | -1 0 1 2 . | -2 -1 0 1 2
        kept   0 1 2      | -1 0 1     | -2 -1 0

    Runtimes compute it once, when they load the graph: it takes 12 MB at 10 s."""
    heads, length = w["bias.distances"].shape
    tokens = length // 2
    x = g.constant("bias.distances", w["bias.distances"][:, None])
    x = g.op("Expand", "bias/repeated", x, g.ints(heads, tokens, length))
    x = g.slice("bias/line", g.reshape("bias/flat", x, heads, -1), 1, 0, tokens * (length - 1))
    x = g.reshape("bias/rotated", x, 1, heads, tokens, length - 1)
    return g.slice("bias", x, 3, 0, tokens)


class _Block(BlockWriter):
    """Writes one block: x = norm1(x + proj(attention(x))), then x = norm2(x + fc2(GELU(fc1(x)))). In the
    attention, each query adds the bias by distance, multiplied by its gate."""

    def __init__(self, g: Writer, variant: Variant, w: Weights, layer: int, bias: str) -> None:
        super().__init__(g, w, layer, BlockShape(
            width=variant.size.width, heads=variant.size.heads, tokens=variant.tokens,
            queries=variant.tokens, eps=EPS))
        self.bias = bias

    def write(self, x: str) -> str:
        x = self._added("attended", x, self.linear("proj", self.attend(x, x)), "norm1")
        y = self.linear("fc2", self.g.gelu(f"{self.name}/gelu", self.linear("fc1", x)))
        return self._added("out", x, y, "norm2")

    def _added(self, part: str, x: str, y: str, norm: str) -> str:
        """Write the norm of the sum of y and the residual x."""
        g, name = self.g, self.name
        if self.w["residual"] != 1:
            x = g.op("Mul", f"{name}/{part}/residual", x, g.constant("residual", self.w["residual"]))
        x = g.op("Add", f"{name}/{part}", x, y)
        return g.norm(f"{name}/{norm}", x, self.w, f"{self.key}.{norm}", EPS)

    def add_bias(self, logits: str, rows: str, query: str) -> str:
        g, name = self.g, self.name
        gated = g.op("Mul", f"{name}/bias", self._gate(rows, query), self.bias)
        return g.op("Add", f"{name}/logits/biased", logits, gated)

    def _gate(self, rows: str, query: str) -> str:
        """Write sigmoid(u) * (sigmoid(v) * grep_a - 1) + 2, [N, h, T, 1], with u and v from the queries [N,
        h, T, d / h], or from the tokens [N * T, d] in one product."""
        g, name, heads = self.g, f"{self.name}/gate", self.shape.heads
        if f"{self.key}.gate.weight" in self.w:
            x = g.reshape(f"{name}/streams", self.linear("gate", rows), -1, self.shape.tokens, 2 * heads)
            x = g.op("Transpose", f"{name}/pairs", x, perm=[0, 2, 1])
            x = g.reshape(f"{name}/columns", x, -1, 2 * heads, self.shape.tokens, 1)
            axis, sizes = 1, (heads, heads)
        else:
            x = self.linear("grep", query)
            x = g.sum(f"{name}/pairs", g.reshape(f"{name}/fours", x, -1, heads, self.shape.tokens, 2, 4), 4)
            axis, sizes = 3, (1, 1)
        first, second = g.split(f"{name}/parts", g.op("Sigmoid", f"{name}/sigmoid", x), axis, *sizes)
        scale = g.constant(f"{self.key}.grep_a", self.w[f"{self.key}.grep_a"][:, None, None])
        x = g.op("Mul", f"{name}/scaled", second, scale)
        x = g.op("Add", f"{name}/lowered", x, g.scalar("minus_one", -1.0))
        return g.op("Add", name, g.op("Mul", f"{name}/chosen", first, x), g.scalar("two", 2.0))


def _head(g: Writer, variant: Variant, w: Weights, x: str) -> None:
    """Write the nodes from tokens [N * T, d] to the graph's scores [N, classes] and embedding [N, d]."""
    def mean(name: str, x: str, width: int) -> str:
        return g.mean(name, g.reshape(f"{name}/tokens", x, -1, variant.tokens, width), 1)

    embedding = mean("embedding", x, variant.size.width)
    is_last = bool(w["head.is_last"])
    with g.role("head"):
        x = g.linear("head", embedding if is_last else x, w, "head")
    g.op("Sigmoid", "scores", x if is_last else mean("logits", x, len(w["head.bias"])))
