"""Python code, for error messages, that saves weights again as a file that satexport loads.

Users copy and run this code as it is, so that it is written only here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from satexport.errors import LONGEST

SAVE_WEIGHTS: Final = "save only the weights: torch.save(model.state_dict(), 'weights.pt')"
MAX_CODE: Final = LONGEST // 2  # characters; code ends a message, and the end of a long message is kept


def torch_code(path: object, place: str = "", weights_only: bool = True) -> tuple[str, str]:
    """Return `load` and `save`, as in a `StateFile`, of a file of torch.save whose state dict is at `place`,
    such as "['model']"."""
    return (f"import torch; state = torch.load({str(path)!r}, map_location='cpu', "
            f"weights_only={weights_only}){place}", "torch.save({}, 'weights.pt')")


def safetensors_code(path: object) -> tuple[str, str]:
    """Return `load` and `save`, as in a `StateFile`, of a safetensors file."""
    return (f"from safetensors.numpy import load_file, save_file; state = load_file({str(path)!r})",
            "save_file({}, 'weights.safetensors')")


def resave(load: str, save: str, prefix: str = "", conditions: Sequence[str] = ()) -> str:
    """Return Python code that saves a state dict again, without a prefix of its names. It leaves out entries
    whose name lacks the prefix or that fail one of the `conditions` on their name k and value v. If the code
    would be so long that a message cuts it, returns SAVE_WEIGHTS."""
    key = f"k.removeprefix({prefix!r})" if prefix else "k"
    kept = [*([f"str(k).startswith({prefix!r})"] if prefix else []), *conditions]
    where = f" if {' and '.join(kept)}" if kept else ""
    code = f"{load}; {save.format(f'{{{key}: v for k, v in state.items(){where}}}')}"
    return code if len(code) <= MAX_CODE else SAVE_WEIGHTS
