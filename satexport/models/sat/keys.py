"""State dicts: the names and shapes of a published one, and what another one looks like.

Source of names and shapes: the published checkpoints (Zenodo records 7964975, 8275347 and 8275319; the Hub's
repositories mispeech/ced-*). On the Hub a CED has other names, and its front end is no part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from satexport.audio.labels import audioset_labels
from satexport.frontends import log_mel as frontend
from satexport.models.family import Shapes, StateFile
from satexport.models.resave import resave
from satexport.models.sat.variants import LOG_MEL, MLP_RATIO, PATCH, ROWS, VARIANTS, Variant
from satexport.terminal import shown

MARK: Final = "time_pos_embed"  # a name that only these state dicts have, behind any prefix
COUNTER: Final = "init_bn.1.num_batches_tracked"  # of training; no weight, may be missing
HEAD: Final = "outputlayer.1.weight"
HEAD_BIAS: Final = "outputlayer.1.bias"
# One definition for PyTorch and graph: the file's copies differ from these by rounding only
# (5e-6 in float32, 5e-4 in float16), and are checked, then replaced by them.
HUB_PREFIX: Final = "encoder."  # of the names that a CED has on the Hub, but for those of its output layer
FRONT_END: Final[dict[str, Callable[[], NDArray[np.float64]]]] = {
    "front_end.0.spectrogram.window": partial(frontend.window, LOG_MEL),
    "front_end.0.mel_scale.fb": partial(frontend.mel_filterbank, LOG_MEL),
}
MAX_COLUMNS: Final = 10_000  # of a ViT's time code, half an hour; the published ones have 63


def expected_shapes(variant: Variant, classes: int) -> Shapes:
    """Return name and shape of every weight of a published state dict."""
    d = variant.width
    shapes: Shapes = {
        "time_pos_embed": (1, d, 1, variant.time_columns),
        "freq_pos_embed": (1, d, ROWS, 1),
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
    """The name on the Hub of a weight of a CED."""
    return name if name.startswith("outputlayer.") else HUB_PREFIX + name.replace("init_bn.1.", "init_bn.")


def find_names(found: Shapes, variant: Variant) -> Callable[[str], str]:
    """Return the function from published names to those that a state dict has: the Hub's if it is a CED from
    there and a CED is asked for."""
    is_from_hub = variant.is_ced and MARK not in found and hub_name(MARK) in found
    return hub_name if is_from_hub else str


def shapes_like(found: Shapes, variant: Variant) -> Shapes:
    """The shapes of a variant with as many classes, and without a cache as long a time code, as were found,
    by the names that the state dict has."""
    name = find_names(found, variant)
    head, time = found.get(name(HEAD), ()), found.get(name(MARK), ())
    expected = expected_shapes(variant, head[0] if len(head) == 2 and head[0] > 0 else len(audioset_labels()))
    if not variant.has_cache and len(time) == 4 and 0 < time[3] <= MAX_COLUMNS:
        expected[MARK] = (*expected[MARK][:3], time[3])
    return {name(key): shape for key, shape in expected.items()
            if name is not hub_name or key not in FRONT_END}


def advice(found: Shapes, asked: Variant, file: StateFile) -> str:
    """What a state dict that does not fit looks like, and what to do."""
    prefixes = [] if MARK in found or resembles(found) else [
        key.removesuffix(MARK) for key in found if key.endswith(f".{MARK}")]
    prefix, words = "", []
    if prefixes:
        prefix = prefixes[0].removesuffix(HUB_PREFIX if asked.is_ced else "")
        words.append(f"Its names start with {' or '.join(map(shown, prefixes))}.")
        found = {key.removeprefix(prefix): shape for key, shape in found.items() if key.startswith(prefix)}
    expected = shapes_like(found, asked)
    fits = all(found.get(key) == shape for key, shape in expected.items())
    extra = [key for key in found if key not in expected and key != find_names(found, asked)(COUNTER)]
    if fits or prefix:
        if not fits:
            words.append(_looks_like(found, asked))
        elif extra:
            words.append(f"All that a {asked.model} needs is there, and {len(extra)} more entries.")
        how = resave(file.load, file.save, prefix, _without(extra, expected, prefix) if fits else ())
        return " ".join((*words, f"Save what is needed again: {how}"))
    return _looks_like(found, asked)


def _without(extra: list[str], expected: Shapes, prefix: str) -> list[str]:
    """The condition that leaves entries out: of many by the parts of their names that no name of a weight
    has, where each has one."""
    if not extra:
        return []
    known = {part for key in expected for part in key.split(".")}
    strange = {next((part for part in key.split(".") if part not in known), "") for key in extra}
    if len(extra) > 3 and "" not in strange:
        name = f"k.removeprefix({prefix!r})" if prefix else "k"
        return [f"not {{{str(sorted(strange))[1:-1]}}} & set({name}.split('.'))"]
    return [f"k not in {[prefix + key for key in extra]}"]


def _looks_like(found: Shapes, asked: Variant) -> str:
    alike = resembles(found)
    if not alike:
        return "It is no SAT, ViT or CED of a published size: `satexport models` lists what can be exported."
    if asked in alike:
        return "The rest of it fits: it is incomplete or was changed; save the whole state dict."
    guess = next((v for v in alike if v.delay == asked.delay), alike[0])
    models = " or ".join(dict.fromkeys(v.model for v in alike))
    delays = " or ".join(dict.fromkeys(f"{v.delay} s" for v in alike))
    unsure = " (its shapes do not tell which)" if len(alike) > 1 else ""
    return (f"This looks like {models} at {delays}{unsure}: "
            f"pass --model {guess.model} --delay {guess.delay}.")


def resembles(found: Shapes) -> list[Variant]:
    """The published variants that a state dict of these shapes could be of."""
    return [variant for variant in VARIANTS.values() if _resembles(found, variant)]


def _resembles(found: Shapes, variant: Variant) -> bool:
    """True where width, kind of attention, pooling and time code are the variant's."""
    name = find_names(found, variant)
    attention = "attn.to_q.weight" if variant.has_cache else "attn.qkv.weight"
    time = found.get(name(MARK), ())
    return (found.get(name("freq_pos_embed")) == (1, variant.width, ROWS, 1)
            and any(key.endswith(attention) for key in found)
            and (name("cls_token") in found) == (variant.pooling == "token")
            and (not variant.has_cache or time[-1:] == (variant.time_columns,)))
