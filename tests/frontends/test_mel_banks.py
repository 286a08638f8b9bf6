"""Mel filter banks equal those of the published front ends."""

from __future__ import annotations

import numpy as np
import pytest

from satexport.frontends.mel_banks import kaldi_mel_bank, slaney_mel_bank
from tests import ROOT

PUBLISHED = np.load(ROOT / "tests" / "data" / "baselines" / "mel_filters.npz")


@pytest.mark.parametrize(("name", "rate", "n_fft", "f_min", "f_max", "empty"), [
    ("kaldi_16k_128", 16_000, 512, 20.0, 8000.0, {3}),
    ("kaldi_32k_40", 32_000, 1024, 0.0, 15_000.0, set()),
    ("kaldi_32k_64", 32_000, 1024, 0.0, 15_000.0, set()),
    ("kaldi_32k_128", 32_000, 1024, 0.0, 15_000.0, set()),
    ("kaldi_32k_256", 32_000, 1024, 0.0, 15_000.0, {0, 1, 4, 5, 8, 11, 14, 17, 20, 23, 28, 31, 38})])
def test_kaldi_filters_equal_the_published_ones(
        name: str, rate: int, n_fft: int, f_min: float, f_max: float, empty: set[int]) -> None:
    bank = kaldi_mel_bank(rate, n_fft, len(PUBLISHED[name]), f_min, f_max)
    np.testing.assert_allclose(bank.T, PUBLISHED[name], atol=3e-5)  # published in float32
    assert set(np.flatnonzero(bank.max(0) == 0).tolist()) == empty
    assert not bank[-1].any()


def test_slaneys_filters_equal_the_published_ones_and_have_the_area_one() -> None:
    bank = slaney_mel_bank(32_000, 1024, 64, 50.0, 14_000.0)
    np.testing.assert_allclose(bank.T, PUBLISHED["slaney_32k_64"], rtol=0, atol=3e-9)  # published in float32
    np.testing.assert_allclose(bank.sum(0)[32:] * 32_000 / 1024, 1, atol=0.01)
