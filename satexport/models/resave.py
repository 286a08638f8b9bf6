"""The Python that saves weights again as a file that can be loaded.

Advice in an error is to be typed in as it stands, so it is written here, once, as code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from satexport.errors import LONGEST

SAVE_WEIGHTS: Final = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
MAX_CODE: Final = LONGEST // 2  # characters of Python, which ends a message: its end is never cut


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
