"""The kinds of embeddings: what each is, and how many numbers it has.

Source: "Low-Complexity Audio Embedding Extractors" (Schmid et al., 2023, arXiv 2303.01879) and the behaviour
of its published implementation: the means of M_B are those of block outputs, after the residual; M_B+L is
stored with L first; M_SE is taken before the ReLU; H_Clf2 is taken after the activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from satexport.models.efficientat.variants import Variant

READ: Final = (5, 11, 13, 15)  # the blocks that M_B and M_SE read
H_CLF1: Final = "h-clf1"       # the default
M_B_L: Final = "mb+l"
M_SE: Final = "m-se"
H_CLF2: Final = "h-clf2"
_KINDS: Final = {
    H_CLF1: "mean over frequency and time of the last convolution's maps (H_Clf1)",
    M_B_L: "mean over time of the normalised log-mel, then means of the outputs of blocks 5, 11, 13 and 15 "
           "(M_B+L)",
    M_SE: "inner layer of squeeze-and-excitation in blocks 5, 11, 13 and 15, before its ReLU (M_SE)",
    H_CLF2: "hidden layer of the head, after its activation (H_Clf2)"}


def embeddings(variant: Variant) -> Mapping[str, str]:
    """Return the kinds of a variant; the head "fc" has no hidden layer."""
    return {kind: phrase for kind, phrase in _KINDS.items() if kind != H_CLF2 or variant.head == "mlp"}


def embedding_sizes(variant: Variant) -> Mapping[str, int]:
    """Return how many numbers the embedding of each kind has."""
    read = [variant.blocks[number - 1] for number in READ]
    return {H_CLF1: variant.last_channels, H_CLF2: variant.hidden,
            M_B_L: variant.mel.bands + sum(block.outputs for block in read),
            M_SE: sum(block.bottleneck for block in read)}
