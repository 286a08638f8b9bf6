"""The order of tokens in the graph: each constant against the same step of the PyTorch model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from satexport.models.htsat import network
from satexport.models.htsat.layout import (
    pool_matrix,
    position_index,
    shift_mask,
    shifted_quarters,
    stretch_matrix,
    z_order,
)

SIDES = (8, 16, 32, 64)


def in_z_order(image: torch.Tensor) -> torch.Tensor:
    """Return the tokens of a map [s, s, d], [s * s, d]."""
    rows, columns = z_order(len(image))
    return image[rows, columns]


def numbered(side: int) -> torch.Tensor:
    return torch.arange(side ** 2).view(side, side, 1)


@pytest.mark.parametrize("side", SIDES)
def test_the_tokens_of_a_window_are_a_range(side: int) -> None:
    windows = network.to_windows(numbered(side)[None])[..., 0].sort(-1).values
    found = in_z_order(numbered(side)).view(-1, 64).sort(-1).values
    assert {tuple(window) for window in found.tolist()} == {tuple(window) for window in windows.tolist()}


@pytest.mark.parametrize("side", SIDES[1:])
def test_the_four_tokens_that_become_one_are_next_to_each_other_in_the_published_order(side: int) -> None:
    x = numbered(side)
    merged = torch.cat((x[::2, ::2], x[1::2, ::2], x[::2, 1::2], x[1::2, 1::2]), -1)
    torch.testing.assert_close(in_z_order(merged), in_z_order(x).view(-1, 4))


@pytest.mark.parametrize("side", SIDES[1:])
def test_a_shift_of_the_windows_is_a_permutation_of_their_quarters(side: int) -> None:
    quarters = in_z_order(numbered(side)).view(-1, 16)
    moved = quarters[shifted_quarters(side, 1)].view(-1, 1)
    torch.testing.assert_close(moved, in_z_order(numbered(side).roll((-4, -4), (0, 1))))
    torch.testing.assert_close(moved.view(-1, 16)[shifted_quarters(side, -1)], quarters)


@pytest.mark.parametrize("side", SIDES[1:])
def test_the_mask_of_shifted_windows_is_that_of_the_model(side: int) -> None:
    order = in_z_order(numbered(8))[:, 0]           # tokens of a window
    windows = in_z_order(numbered(side // 8))[:, 0]
    expected = network.shift_mask(side)[windows][:, order][:, :, order]
    np.testing.assert_array_equal(shift_mask(side)[:, 0], expected)


def test_the_positions_of_two_tokens_are_those_of_the_model() -> None:
    order = in_z_order(numbered(8))[:, 0]
    np.testing.assert_array_equal(position_index(), network.position_index()[order][:, order])


def test_six_means_over_time_give_the_mean_of_the_convolution() -> None:
    torch.manual_seed(0)
    tokens, conv = torch.randn(8, 8, 5), torch.nn.Conv2d(5, 7, (2, 3), padding=(0, 1))
    pieces = tokens.view(4, 2, 8, 5).permute(3, 1, 0, 2).flatten(2)[None]
    with torch.inference_mode():
        assert conv.bias is not None
        expected = conv(pieces).squeeze(2).mean(-1)[0]
        pooled = in_z_order(tokens).T @ torch.from_numpy(pool_matrix()).float()
        found = conv.weight.flatten(1) @ pooled.flatten() + conv.bias
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [101, 1001])
def test_the_stretch_is_bicubic_with_positions_in_float32(frames: int) -> None:
    edge = torch.where(torch.arange(frames) % 7 < 3, 0.0, -80.0)  # dB, from digital silence to a signal
    expected = F.interpolate(edge[None, None, None], (1, 1024), mode="bicubic", align_corners=True).flatten()
    found = edge.double().numpy() @ stretch_matrix(frames)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(stretch_matrix(frames).sum(0), 1, rtol=0, atol=1e-12)
