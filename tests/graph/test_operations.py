"""The operations counted on the graph equal those computed by hand from the published shapes."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from satexport.bundle.contract import ANY, GraphOptions
from satexport.errors import RunError
from satexport.graph.operations import count_operations
from satexport.graph.roles import Graph
from satexport.graph.simplify import simplify
from tests.models.sat.graphs import exported

CLASSES, BLOCKS = 527, 12


def block(d: int, asking: int, new: int, all_tokens: int) -> int:
    """q and proj (d x d), MLP (2 products of d x 4 d), k and v (d x 2 d), attention (2 products)."""
    return 2 * (asking * 10 * d * d + new * 2 * d * d + 2 * asking * all_tokens * d)


def model_by_hand(d: int, patches: int, cached: int, class_token: bool) -> int:
    """A multiply-add counts as two. Keys and values of layer 0's cache are projected again, because they
    contain the position code twice. After the last block's attention only a class token is processed."""
    new = patches + class_token
    last = block(d, 1 if class_token else new, new, new + cached)
    again = 2 * cached * 2 * d * d
    patch, head = 2 * patches * 16 * 16 * d, 2 * d * CLASSES
    return patch + again + (BLOCKS - 1) * block(d, new, new, new + cached) + last + head


def front_end_by_hand(frames: int) -> int:
    """Two stages of the FFT (32 filters of 16 samples for each of 8 complex places and 2 parts, then 64 x 64
    for each place) and four groups of 16 mel bands, which read 35 columns of 8 bins together."""
    return 2 * frames * (32 * 8 * 2 * 16 + 8 * 64 * 64 + 16 * 35 * 8)


@pytest.mark.parametrize(("model", "delay", "by_hand", "frames"), [
    ("sat-t", 2, model_by_hand(192, 48, 48, False), 201),
    ("sat-t", 1, model_by_hand(192, 24, 24, False), 101),
    ("sat-s", 2, model_by_hand(384, 48, 48, True), 201),
    ("vit-t", 1, model_by_hand(192, 24, 0, False), 101)])
def test_the_count_matches_the_published_shapes(model: str, delay: int, by_hand: int, frames: int) -> None:
    assert count_operations(exported(model, delay)) == {
        "model": by_hand, "front_end": front_end_by_hand(frames)}


def test_sat_t_at_2_s_takes_0_564_gflop() -> None:
    assert round(count_operations(exported("sat-t", 2))["model"] / 1e9, 3) == 0.564


def test_the_last_block_of_sat_s_processes_only_the_class_token() -> None:
    d, new, cached = 384, 49, 48
    saved = block(d, new, new, new + cached) - block(d, 1, new, new + cached)
    with_all_tokens = model_by_hand(d, 48, cached, True) + saved
    assert count_operations(exported("sat-s", 2))["model"] == with_all_tokens - saved
    assert saved > 0.05 * with_all_tokens


@pytest.mark.parametrize("options", [GraphOptions(streams=3), GraphOptions(streams=ANY)],
                         ids=lambda options: options.suffix)
def test_the_count_is_per_stream_for_any_number_of_streams(options: GraphOptions) -> None:
    model = exported("sat-t", 1, options)
    before = model.model.SerializeToString()
    assert count_operations(model) == count_operations(exported("sat-t", 1))
    assert model.model.SerializeToString() == before  # counting changes nothing


def test_a_graph_with_mel_input_has_no_front_end_operations() -> None:
    audio, mel = (count_operations(exported("sat-t", 1, GraphOptions(input=kind)))
                  for kind in ("audio", "mel"))
    assert mel == {"model": audio["model"], "front_end": 0}


def test_a_hidden_cache_costs_additional_products() -> None:
    keys_values, hidden = (count_operations(exported("sat-t", 1, GraphOptions(cache=kind)))["model"]
                           for kind in ("kv", "hidden"))
    again = 2 * 24 * 2 * 192**2  # keys and values of the old tokens, which all blocks but one had cached
    assert hidden == keys_values + (BLOCKS - 1) * again


@pytest.mark.parametrize("options", [GraphOptions(), GraphOptions(streams=3)], ids=["one stream", "three"])
def test_onnxsim_does_not_change_the_count(options: GraphOptions) -> None:
    model = exported("sat-t", 1, options)
    simpler = simplify(model)
    assert not simpler.why_not
    assert count_operations(simpler.graph) == count_operations(model)


def product(*left: int | str) -> Graph:
    """A graph of one product, [...] x [3, 5]."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
              for name, shape in (("left", left), ("right", [3, 5]), ("out", [*left[:-1], 5]))]
    node = helper.make_node("MatMul", ["left", "right"], ["out"], name="product")
    return Graph(helper.make_model(helper.make_graph([node], "graph", values[:2], values[2:])), {})


def test_a_product_of_unknown_size_is_an_error() -> None:
    assert count_operations(product(7, 2, 3)) == {"model": 2 * 2 * 3 * 5, "front_end": 0}
    with pytest.raises(RunError, match="operations of node product cannot be counted"):
        count_operations(product(7, "unknown", 3))
