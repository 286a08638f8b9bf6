"""Models by name: published models and models of another size."""

from __future__ import annotations

from dataclasses import replace

import pytest

from satexport.errors import UsageError
from satexport.models.families import find_variant, named_variant
from satexport.models.sat.variants import VARIANTS, Variant, find_model


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
@pytest.mark.parametrize(("size", "depth"), [("80x5", 12), ("80x5x1", 1), ("80x5x3", 3)])
def test_a_model_of_another_size_differs_from_the_published_one_only_in_size(
        variant: Variant, size: str, depth: int) -> None:
    name = f"{variant.model}-{size}"
    small = find_model(name)[variant.delay]
    assert small == replace(variant, model=name, width=80, heads=5, depth=depth)
    assert (small.head_width, small.name) == (16, f"{name}-{variant.delay}s")
    assert small.memory_steps == variant.memory_steps * depth // 12
    for one in (small, variant):
        assert named_variant(one.name) == one


@pytest.mark.parametrize(("model", "delay", "words"), [
    ("sat-t-48x5", 2, "sat-t-48x5: expected a width up to 1024 that is a multiple of the number of heads"),
    ("sat-t-1028x4", 2, "expected a width up to 1024"), ("sat-t-48x48000", 2, "expected a width up to 1024"),
    ("sat-t-0x3", 2, "expected a width up to 1024"), ("sat-t-48x0", 2, "expected a width up to 1024"),
    ("sat-t-048x3", 2, "unknown model"), ("ced-nano", 2, "unknown model"),
    ("ced-nano-48x3", 2, "unknown model"),
    ("ced-t-48x3", 2, "unknown model"), ("ced-tiny-48x5", 2, "expected a width up to 1024"),
    ("sat-t-48x3-48x3", 2, "unknown model"), ("sat-x-48x3", 2, "the models are .*ced-base, ced-mini, ced"),
    ("sat-t-48x3\n", 2, "unknown model"), ("sat-t-4\u0668x3", 2, "unknown model"),
    ("sat-t-48x3x25", 2, "sat-t-48x3x25: expected a depth from 1 to 24"),
    ("sat-t-48x3x0", 2, "expected a depth from 1 to 24"),
    ("sat-t-48x3x02", 2, "unknown model"), ("sat-t-48x3x", 2, "unknown model"),
    ("sat-t-48x3", 10, "sat-t-48x3 has no delay of 10 s; it has 1, 2")])
def test_an_impossible_size_is_wrong_use(model: str, delay: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_variant(model, delay)


@pytest.mark.parametrize("name", [
    "", "sat-t", "sat-t-2", "sat-t-0s", "sat-t-3s", "sat-t-2s\n", "-2s", "sat-t--2s", "sat-t-999999999s"])
def test_an_unknown_name_is_wrong_use(name: str) -> None:
    with pytest.raises(UsageError):
        named_variant(name)
