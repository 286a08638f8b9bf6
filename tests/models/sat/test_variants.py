"""Models by name: the published ones, and those of another width."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from satexport.bundle.folder import open_bundle
from satexport.errors import BundleError, UsageError
from satexport.models.families import find_variant, named_variant
from satexport.models.sat.variants import VARIANTS, Variant
from tests.bundle.test_folder import copy_of, reseal


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_a_model_of_another_width_is_the_published_one_in_all_else(variant: Variant) -> None:
    name = f"{variant.model}-80x5"
    small = find_variant(name, variant.delay)
    assert small == replace(variant, model=name, width=80, heads=5)
    assert (small.head_width, small.name) == (16, f"{name}-{variant.delay}s")
    for one in (small, variant):
        assert named_variant(one.name) == one


@pytest.mark.parametrize(("model", "delay", "words"), [
    ("sat-t-48x5", 2, "sat-t-48x5: expected a width up to 1024 that its number of heads divides"),
    ("sat-t-1028x4", 2, "expected a width up to 1024"), ("sat-t-48x48000", 2, "unknown model"),
    ("sat-t-0x3", 2, "unknown model"), ("sat-t-48x0", 2, "unknown model"),
    ("sat-t-048x3", 2, "unknown model"),
    ("sat-t-48x3-48x3", 2, "unknown model"), ("sat-x-48x3", 2, "the models are sat-b, sat-s, sat-t, vit-b"),
    ("sat-t-48x3\n", 2, "unknown model"), ("sat-t-4\u0668x3", 2, "unknown model"),
    ("sat-t-48x3", 10, "sat-t-48x3 has no delay of 10 s; it has 1, 2")])
def test_a_width_that_cannot_be_is_wrong_use(model: str, delay: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, delay)


def test_a_bundle_of_a_variant_that_is_not_known_here_says_so(random_vit: Path, tmp_path: Path) -> None:
    bundle = copy_of(random_vit, tmp_path)
    reseal(bundle, variant="vit-x-2s")
    with pytest.raises(BundleError, match=r"holds a vit-x-2s, which this satexport does not know"):
        _ = open_bundle(bundle).variant


@pytest.mark.parametrize("name", [
    "", "sat-t", "sat-t-2", "sat-t-0s", "sat-t-3s", "sat-t-2s\n", "-2s", "sat-t--2s", "sat-t-999999999s"])
def test_what_names_no_variant_is_wrong_use(name: str) -> None:
    with pytest.raises(UsageError):
        named_variant(name)
