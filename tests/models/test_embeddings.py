"""Embeddings of every family: their kinds, and graphs that compute what the reference computes."""

from __future__ import annotations

import numpy as np
import pytest

from satexport.audio.synthetic import synthetic_stream
from satexport.backends.onnxruntime.step import OnnxRuntimeStep
from satexport.bundle.contract import CheckpointOrigin, GraphOptions
from satexport.errors import UsageError
from satexport.frontends.prepare import model_input
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import (
    FAMILIES,
    check_options,
    choose_embedding,
    find_embeddings,
    find_family,
    find_variant,
    make_reference,
)
from satexport.pipeline.export import make_contract
from tests.tiny import SAT

TINY = [SAT, "sat-s-48x3x2", "ast-48x3x2x96", "passt-s16-48x3x2", "htsat-8x1-2-2-4x2-2-2-2",
        "beats-embed32-48x3x2x96", "mn01"]  # all kinds of every family
KINDS = [(model, kind) for model in TINY for kind in find_embeddings(find_variant(model, 1))]


def test_a_small_model_of_every_family_is_tried() -> None:
    assert {find_variant(model, 1).family for model in TINY} == set(FAMILIES)


@pytest.mark.parametrize(("model", "kinds"), [
    ("sat-b", ["mean"]), ("sat-s", ["token"]), ("vit-s", ["token"]), ("ced-base", ["mean"]),
    ("ast-s16", ["tokens"]), ("passt-l", ["tokens"]), ("beats", ["mean"]),
    ("mn10", ["h-clf1", "mb+l", "m-se", "h-clf2"]),
    ("mn10-fc", ["h-clf1", "mb+l", "m-se"])])
def test_a_model_has_its_kinds_of_embeddings(model: str, kinds: list[str]) -> None:
    variant = find_variant(model)
    assert list(find_embeddings(variant)) == kinds
    check_options(variant, GraphOptions(embedding=kinds[0]))


def test_a_kind_of_another_family_is_refused_with_the_models_own() -> None:
    with pytest.raises(UsageError, match=r"ast-2s has no embedding 'h-clf1'; expected tokens, or leave"):
        check_options(find_variant("ast"), GraphOptions(embedding="h-clf1"))


def test_only_a_command_chooses_the_first_kind() -> None:
    assert choose_embedding(find_variant("mn10"), "") == "h-clf1"
    assert choose_embedding(find_variant("mn10"), None) == ""
    with pytest.raises(UsageError, match="has no embedding 'default'; expected h-clf1 or"):
        check_options(find_variant("mn10"), GraphOptions(embedding="default"))


@pytest.mark.parametrize("options", [
    {"input": "mel", "streams": 2}, pytest.param({"input": "audio"}, marks=pytest.mark.long)], ids=str)
@pytest.mark.parametrize(("model", "kind"), KINDS)
def test_every_rewrite_of_a_graph_embeds_as_the_reference_does(
        model: str, kind: str, options: dict[str, object]) -> None:
    checkpoint = load_checkpoint("random", find_variant(model, 1))
    variant = checkpoint.variant
    reference = make_reference(checkpoint, kind)
    chosen = GraphOptions(embedding=kind, **options)  # type: ignore[arg-type]
    contract = make_contract(
        variant, checkpoint.classes, chosen, 20, labels_sha256="",
        checkpoint=CheckpointOrigin(name="", source="random", sha256=""))
    count = chosen.streams
    audio = synthetic_stream(3 * count, "evaluate", rate=variant.sample_rate).reshape(3, count, -1)
    for rewrite in find_family(variant.family).rewrites(checkpoint, contract, reference.initial_cache(1)):
        step = OnnxRuntimeStep(rewrite.graph.model.SerializeToString(), contract, rewrite.cache)
        cache, expected_cache = step.initial_cache(count), reference.initial_cache(count)
        for chunk in audio:
            found, cache = step(model_input(contract, chunk), cache)
            expected, expected_cache = reference(chunk, expected_cache)
            assert found.embedding is not None
            assert expected.embedding is not None
            assert contract.embedding
            assert found.embedding.shape == expected.embedding.shape == contract.embedding.shape
            gap = np.linalg.norm(found.embedding - expected.embedding, axis=1)
            assert (gap < 1e-4 * np.linalg.norm(expected.embedding, axis=1)).all(), rewrite.name
            np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)
