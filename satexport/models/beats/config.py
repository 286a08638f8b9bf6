"""What a published file says about its model besides the weights: its config and its labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from satexport.audio.labels import audioset_mids
from satexport.models.beats.variants import GROUPS, PATCH, TAPS, Size
from satexport.models.family import StateFile
from satexport.terminal import shown

# Entries with the only value for which this family's models are right. Entries that are neither here nor in
# SIZES say how to train, and are not read.
ONLY: Final[Mapping[str, object]] = {
    "input_patch_size": PATCH, "conv_bias": False, "activation_fn": "gelu", "layer_norm_first": False,
    "conv_pos": TAPS, "conv_pos_groups": GROUPS, "relative_position_embedding": True, "gru_rel_pos": True,
    "finetuned_model": True}
SIZES: Final = {  # entry -> field of `Size`
    "embed_dim": "embed", "encoder_embed_dim": "width", "encoder_attention_heads": "heads",
    "encoder_layers": "depth", "encoder_ffn_embed_dim": "mlp", "num_buckets": "buckets",
    "max_distance": "distance", "deep_norm": "deep_norm"}
CLASSES: Final = "predictor_class"
_COPY: Final = "Copy or download the file again."
_WHOLE: Final = ("expected a file as published, a dict with cfg, model and label_dict that torch.save "
                 "wrote, or a safetensors file of the weights with cfg and label_dict as JSON in its "
                 "metadata. Pass the original file.")


class Config(NamedTuple):
    """The part of a config that the model depends on."""

    size: Size
    classes: int


def read_config(file: StateFile) -> Config | str:
    """Return the config of a file, or what is wrong with it: what was found and expected, and what to do."""
    config = _read_dict(file, "cfg")
    if isinstance(config, str):
        return f"{config}; {_WHOLE}"
    missing = [key for key in (*SIZES, CLASSES, *ONLY) if key not in config]
    if missing:
        return (f"its cfg has no {missing[0]}; expected the cfg of a fine-tuned BEATs, with "
                f"{', '.join(missing[:4])}. Pass the original file.")
    for key, expected in ONLY.items():
        if not _is_plain(config[key]) or config[key] != expected:
            return (f"its cfg has {key} = {shown(config[key])}; expected {expected!r}: a BEATs with another "
                    "value is not supported. Pass a fine-tuned BEATs as published.")
    for key in (*SIZES, CLASSES):
        expected_type = bool if key == "deep_norm" else int
        if type(config[key]) is not expected_type:
            return f"its cfg has {key} = {shown(config[key])}; expected {expected_type.__name__}. {_COPY}"
    size = Size(**{field: config[key] for key, field in SIZES.items()})
    if fault := size.fault():
        return f"its cfg is impossible: expected {fault}. {_COPY}"
    return Config(size, config[CLASSES])


def find_order(file: StateFile) -> list[int] | str:
    """Return the row of a file's predictor for each class of AudioSet, in the order of `audioset_labels`; or
    what is wrong with its label_dict, which maps a row to a MID, such as 0 to "/m/09x0r"."""
    labels, mids = _read_dict(file, "label_dict"), audioset_mids()
    want = (f"expected one that maps the numbers 0 to {len(mids) - 1} to the MIDs of AudioSet's {len(mids)} "
            "classes, in any order. Pass a file that was fine-tuned on AudioSet.")
    if isinstance(labels, str):
        return f"{labels}; {want}"
    rows: dict[str, int] = {}
    for number, mid in labels.items():
        if not (re.fullmatch("[0-9]{1,4}", str(number)) and isinstance(mid, str) and mid in mids):
            return f"its label_dict maps {shown(number)} to {shown(mid)}; {want}"
        if mid in rows:
            return f"its label_dict has {shown(mid)} twice; {want}"
        rows[mid] = int(number)
    if len(rows) != len(mids):
        return f"its label_dict has {len(rows)} labels; {want}"
    if missing := sorted({*range(len(mids))} - {*rows.values()}):
        return f"its label_dict has no label for {missing[0]}; {want}"
    return [rows[mid] for mid in mids]


def _read_dict(file: StateFile, name: str) -> Mapping[Any, Any] | str:
    """Return an entry of a file besides the weights, or what it is if it is no dict. The metadata of a
    safetensors file has it as JSON."""
    content = file.others.get(name)
    if isinstance(content, str):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError):
            return f"its {name} is not JSON"
    if isinstance(content, Mapping):
        return content
    return f"has no {name}" if content is None else f"its {name} is a {type(content).__name__}, not a dict"


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)
