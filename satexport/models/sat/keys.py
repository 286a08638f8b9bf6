"""The names and shapes in published state dicts, and advice on state dicts that do not match them.

Source of names and shapes: the published checkpoints (Zenodo records 7964975, 8275347 and 8275319; the Hub's
repositories mispeech/ced-*). On the Hub, the weights of a CED have other names, and the front end is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.audio.labels import audioset_labels
from satexport.models.family import Shapes, StateFile
from satexport.models.mismatch import Comparison, advise, find_prefixes, looks_like
from satexport.models.sat.variants import LOG_MEL, MLP_RATIO, PATCH, ROWS, VARIANTS, Variant
from satexport.models.transformer_size import ask_for_heads, count_blocks

MARK: Final = "time_pos_embed"  # a name that only these state dicts have, possibly after a prefix
MARKS: Final = frozenset({MARK})
FREQUENCY: Final = "freq_pos_embed"
BLOCKS: Final = "blocks."
COUNTER: Final = "init_bn.1.num_batches_tracked"  # only training needs it; may be missing
HEAD: Final = "outputlayer.1.weight"
HUB_PREFIX: Final = "encoder."  # of a CED's names on the Hub, except those of its output layer

# PyTorch and the graph share these front-end constants. The copies in a file differ from them only by
# rounding (5e-6 in float32, 5e-4 in float16); they are checked, then replaced.
FRONT_END: Final[dict[str, Callable[[], NDArray[np.float64]]]] = {
    "front_end.0.spectrogram.window": LOG_MEL.window,
    "front_end.0.mel_scale.fb": LOG_MEL.filters,
}
MAX_COLUMNS: Final = 10_000  # of a ViT's time code: half an hour; published files have 63


def expected_shapes(variant: Variant, classes: int) -> Shapes:
    """Return the shape of every weight in a published state dict, by name."""
    d = variant.width
    shapes: Shapes = {
        "time_pos_embed": (1, d, 1, variant.time_columns),
        FREQUENCY: (1, d, ROWS, 1),
        "front_end.0.spectrogram.window": (LOG_MEL.n_fft,),
        "front_end.0.mel_scale.fb": (LOG_MEL.bins, LOG_MEL.bands),
        "init_bn.1.running_mean": (LOG_MEL.bands,),
        "init_bn.1.running_var": (LOG_MEL.bands,),
    }
    if variant.pooling == "token":
        shapes |= {"cls_token": (1, 1, d), "token_pos_embed": (1, d)}
    block: Shapes = {"norm1": (d,), "norm2": (d,), "attn.proj": (d, d),
                     "mlp.fc1": (MLP_RATIO * d, d), "mlp.fc2": (d, MLP_RATIO * d)}
    block |= ({"attn.to_q": (d, d), "attn.to_kv": (2 * d, d)} if variant.has_cache
              else {"attn.qkv": (3 * d, d)})
    layers: Shapes = {"init_bn.1": (LOG_MEL.bands,), "patch_embed.proj": (d, 1, PATCH, PATCH)}
    for number in range(variant.depth):
        layers |= {f"blocks.{number}.{name}": shape for name, shape in block.items()}
    layers |= {"norm": (d,), "outputlayer.0": (d,), "outputlayer.1": (classes, d)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def hub_name(name: str) -> str:
    """Return the name that a weight of a CED has on the Hub."""
    return name if name.startswith("outputlayer.") else HUB_PREFIX + name.replace("init_bn.1.", "init_bn.")


def find_names(shapes: Shapes, variant: Variant) -> Callable[[str], str]:
    """Return the function from published names to the names in a state dict: `hub_name` if the state dict is
    a CED from the Hub and the variant is a CED, otherwise the identity."""
    is_from_hub = variant.is_ced and MARK not in shapes and hub_name(MARK) in shapes
    return hub_name if is_from_hub else str


def shapes_like(shapes: Shapes, variant: Variant) -> Shapes:
    """Return the shapes that a state dict of the variant should have, by the names in the state dict. The
    number of classes and, for a model without a cache, the length of the time code come from the state
    dict."""
    name = find_names(shapes, variant)
    head, time = shapes.get(name(HEAD), ()), shapes.get(name(MARK), ())
    expected = expected_shapes(variant, head[0] if len(head) == 2 and head[0] > 0 else len(audioset_labels()))
    if not variant.has_cache and len(time) == 4 and 0 < time[3] <= MAX_COLUMNS:
        expected[MARK] = (*expected[MARK][:3], time[3])
    has_front_end = name(MARK) == MARK  # a file from the Hub has none
    return {name(key): shape for key, shape in expected.items() if has_front_end or key not in FRONT_END}


def advice(shapes: Shapes, variant: Variant, file: StateFile) -> str:
    """Describe which model a state dict that does not match the variant looks like, and what to do."""
    prefixes = [] if MARK in shapes or resembles(shapes) or identify(shapes) else [
        prefix.removesuffix(HUB_PREFIX if variant.is_ced else "")
        for prefix in find_prefixes(shapes, MARKS)]
    return advise(shapes, variant, file, prefixes, lambda inner: Comparison(
        shapes_like(inner, variant), {find_names(inner, variant)(COUNTER)},
        looks_like([variant] if _resembles(inner, variant) else resembles(inner), variant,
                   identify(inner) or "It is not a SAT, ViT or CED of a published size: `satexport models` "
                   "lists what can be exported.")))


def resembles(shapes: Shapes) -> list[Variant]:
    """Return the published variants that a state dict of these shapes could belong to."""
    return [variant for variant in VARIANTS.values() if _resembles(shapes, variant)]


def identify(shapes: Shapes) -> str:
    """Return which SAT, ViT or CED of another size a state dict is, as `Family.identify` defines."""
    codes = [shapes.get(name, ()) for name in (FREQUENCY, hub_name(FREQUENCY))]
    width = next((code[1] for code in codes if len(code) == 4), 0)
    depth = max(count_blocks(shapes, name) for name in (BLOCKS, hub_name(BLOCKS)))
    alike = [variant for variant in VARIANTS.values()
             if _resembles(shapes, replace(variant, width=width, depth=depth))]
    delays = {variant.delay for variant in alike}
    models: dict[str, str] = {}  # by kind: of one kind, sat-t and sat-b differ only in size
    for variant in alike:
        delay = f" --delay {variant.delay}" if len(delays) == 1 else ""  # of a SAT whose shapes show it
        models.setdefault(_kind(variant), f"{variant.model}-{width}xHEADSx{depth}{delay}")
    return ask_for_heads(" or ".join(models), width, depth, list(models.values())) if models else ""


def _kind(variant: Variant) -> str:
    return "a SAT" if variant.has_cache else "a CED" if variant.is_ced else "a ViT"


def _resembles(shapes: Shapes, variant: Variant) -> bool:
    """Return whether width, depth, kind of attention, pooling and time code match the variant."""
    name = find_names(shapes, variant)
    attention = "attn.to_q.weight" if variant.has_cache else "attn.qkv.weight"
    time = shapes.get(name(MARK), ())
    return (shapes.get(name(FREQUENCY)) == (1, variant.width, ROWS, 1)
            and count_blocks(shapes, name(BLOCKS)) == variant.depth
            and any(key.endswith(attention) for key in shapes)
            and (name("cls_token") in shapes) == (variant.pooling == "token")
            and (not variant.has_cache or time[-1:] == (variant.time_columns,)))
