"""What the nodes of a graph are: a table that the model family writes and `bundle.json` keeps.

Whatever rewrites a graph (quantiser, fp16, OpenVINO's marks) or counts its operations looks up in this
table, and never guesses from a name, which nodes are the front end and which belong to a layer that may be
quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from satexport.errors import made_by_newer
from satexport.terminal import shown

FRONT = "front_end"        # waveform to scaled features: stays in fp32
ATTENTION = "attention"    # a product of two activations, as queries times keys
WITH_WEIGHTS = ("linear", "patch", "head")  # products with a weight: of a block, to tokens, to scores
KINDS = (FRONT, *WITH_WEIGHTS, ATTENTION)   # nodes that are none of these are not in the table


@dataclass(frozen=True)
class Role:
    """What a node is. As text its kind and its layer, if it has one: "front_end", "linear 00.fc1"."""

    kind: str         # one of KINDS
    layer: str = ""   # of a kind with several layers; nodes of a layer share it

    @property
    def name(self) -> str:
        """The layer as people see it: "00.fc1", "head"."""
        return self.layer or self.kind

    def __str__(self) -> str:
        return f"{self.kind} {self.layer}".strip()

    @classmethod
    def parse(cls, text: str) -> Role:
        """Read the text again; raises `ValueError` for a kind that is none."""
        kind, _, layer = text.partition(" ")
        if kind not in KINDS:
            raise ValueError(f"role {text!r}, expected one of {', '.join(KINDS)}")
        return cls(kind, layer)

Roles = Mapping[str, Role]  # of nodes by their names


def roles_to_json(roles: Roles) -> dict[str, str]:
    """The table as `bundle.json` keeps it, in the order of the graph."""
    return {name: str(role) for name, role in roles.items()}


def roles_from_json(content: Any) -> Roles:
    """Read it again. Raises `ValueError` if it is no such table, `BundleError` for a kind of role that is not
    known here."""
    if not isinstance(content, dict) or not all(isinstance(text, str) for text in content.values()):
        raise ValueError("roles: expected a table of texts")
    for text in content.values():
        if (kind := text.partition(" ")[0]) and kind not in KINDS:
            raise made_by_newer(f"a node has the role {shown(text)}, expected one of {', '.join(KINDS)}")
    return {name: Role.parse(text) for name, text in content.items()}
