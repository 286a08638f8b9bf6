"""Python code, for error messages, that saves weights again as a file that satexport loads.

Users copy this code and run it unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from satexport.errors import LONGEST

SAVE_WEIGHTS: Final = "save only the weights: torch.save(model.state_dict(), 'weights.pt')"
MAX_CODE: Final = LONGEST // 2  # characters; code ends a message, and the end of a long message stays whole


def torch_code(path: object, place: str = "", weights_only: bool = True) -> tuple[str, str]:
    """Return `load` and `save` of a `StateFile` for a file of torch.save with the state dict at `place`, such
    as "['model']"."""
    return (f"import torch; state = torch.load({str(path)!r}, map_location='cpu', "
            f"weights_only={weights_only}){place}", "torch.save({}, 'weights.pt')")


def safetensors_code(path: object) -> tuple[str, str]:
    """Return `load` and `save` of a `StateFile` for a safetensors file."""
    return (f"from safetensors.numpy import load_file, save_file; state = load_file({str(path)!r})",
            "save_file({}, 'weights.safetensors')")


def resave(load: str, save: str, prefix: str = "", conditions: Sequence[str] = ()) -> str:
    """Return Python code that saves a state dict again and removes a prefix from its names. The code leaves
    out entries whose name lacks the prefix or that fail one of the `conditions` on their name k and value v.
    If a message would cut such long code, returns SAVE_WEIGHTS."""
    key = f"k.removeprefix({prefix!r})" if prefix else "k"
    tests = [*([f"str(k).startswith({prefix!r})"] if prefix else []), *conditions]
    condition = f" if {' and '.join(tests)}" if tests else ""
    code = f"{load}; {save.format(f'{{{key}: v for k, v in state.items(){condition}}}')}"
    return code if len(code) <= MAX_CODE else SAVE_WEIGHTS
