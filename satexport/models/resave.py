"""The tensors of a file of weights, and the Python that saves them again as a file that can be loaded.

Advice in an error is to be typed in as it stands, so it is written here, once, as code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from satexport.errors import LONGEST

MARK: Final = "time_pos_embed"  # the name by which a state dict of ours is known, behind any prefix
SAVE_WEIGHTS: Final = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
MAX_CODE: Final = LONGEST // 2  # characters of Python, which ends a message: its end is never cut


class Entry(NamedTuple):
    """One tensor of a file, its values not yet read."""

    shape: tuple[int, ...]
    dtype: str  # "float32"
    read: Callable[[], NDArray[Any]]


class Weights(NamedTuple):
    """The tensors of a state dict by name, and the Python that reads and writes such a file."""

    entries: dict[str, Entry]
    load: str  # statements that set `state`
    save: str  # a statement with {} for the new state dict


def torch_code(path: object, place: str = "", weights_only: bool = True) -> tuple[str, str]:
    """`load` and `save` of a file of torch.save whose state dict is at a place such as "['model']"."""
    return (f"import torch; state = torch.load({str(path)!r}, map_location='cpu', "
            f"weights_only={weights_only}){place}", "torch.save({}, 'weights.pt')")


def safetensors_code(path: object) -> tuple[str, str]:
    """`load` and `save` of a safetensors file."""
    return (f"from safetensors.numpy import load_file, save_file; state = load_file({str(path)!r})",
            "save_file({}, 'weights.safetensors')")


def resave(load: str, save: str, prefix: str = "", conditions: Sequence[str] = ()) -> str:
    """Python that saves a state dict again, a prefix stripped from its names; an entry without it or that a
    condition on its name k and value v does not keep is left out. Where names or the path are so long that
    the Python would be cut: what to do where the model is."""
    key = f"k.removeprefix({prefix!r})" if prefix else "k"
    kept = [*([f"str(k).startswith({prefix!r})"] if prefix else []), *conditions]
    where = f" if {' and '.join(kept)}" if kept else ""
    code = f"{load}; {save.format(f'{{{key}: v for k, v in state.items(){where}}}')}"
    return code if len(code) <= MAX_CODE else SAVE_WEIGHTS
