"""The roles of a graph's nodes: a table that the model family writes and `bundle.json` stores.

Code that rewrites a graph (quantizer, fp16, OpenVINO precision marks) or counts its operations looks up in
this table which nodes are the front end and which belong to a layer that can be quantized. It never guesses
from a node's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from satexport.errors import made_by_newer
from satexport.terminal import shown

FRONT = "front_end"        # waveform to scaled features: stays in fp32
ATTENTION = "attention"    # a product of two activations, such as queries times keys
CONVOLUTIONS = ("conv", "depthwise")  # over all channels; of each channel by itself
WITH_WEIGHTS = ("linear", *CONVOLUTIONS, "patch", "head")  # products with a weight; patch: the first, from
                           # features to tokens or to the channels of a MobileNet; head: the last, to scores
KINDS = (FRONT, *WITH_WEIGHTS, ATTENTION)   # the table omits all other nodes


@dataclass(frozen=True)
class Role:
    """The role of a node. As text: its kind and its layer, if any: "front_end", "linear 00.fc1"."""

    kind: str         # one of KINDS
    layer: str = ""   # if the kind has several layers; all nodes of a layer share it

    @property
    def name(self) -> str:
        """The name to show: "00.fc1", "head"."""
        return self.layer or self.kind

    def __str__(self) -> str:
        return f"{self.kind} {self.layer}".strip()

    @classmethod
    def parse(cls, text: str) -> Role:
        """Parse the text form. Raises `ValueError` for an unknown kind."""
        kind, _, layer = text.partition(" ")
        if kind not in KINDS:
            raise ValueError(f"role {text!r}, expected one of {', '.join(KINDS)}")
        return cls(kind, layer)


Roles = Mapping[str, Role]  # node name -> role


def roles_to_json(roles: Roles) -> dict[str, str]:
    """The table as stored in `bundle.json`, in the order of the graph."""
    return {name: str(role) for name, role in roles.items()}


def roles_from_json(content: Any) -> Roles:
    """Parse the stored table. Raises `ValueError` if it is malformed, `BundleError` for a kind of role that
    this version does not know."""
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise ValueError("roles: expected a table of strings")
    for text in content.values():
        if (kind := text.partition(" ")[0]) and kind not in KINDS:
            raise made_by_newer(f"a node has the role {shown(text)}, expected one of {', '.join(KINDS)}")
    return {name: Role.parse(text) for name, text in content.items()}
