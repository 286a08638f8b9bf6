"""The published checkpoints: each is fetched once and checked whenever it is used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from satexport import files
from satexport.errors import CheckpointError, RunError
from satexport.files import sha256_of
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.family import Published
from satexport.models.published import fetch_published
from satexport.models.sat.published import PUBLISHED
from satexport.models.sat.variants import VARIANTS, find_model
from satexport.models.weightfile import find_by_sha256
from tests.commands.calls import call
from tests.models.checkpoints import hollow, save_torch
from tests.site import Site

SAT_T = find_model("sat-t")[2]
NAME = "SAT_T_stream2s_mAP_43_34.pt"
NOTHING = "http://127.0.0.1:9"  # the port is closed


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small file with the shapes of sat-t at 2 s."""
    return save_torch(tmp_path_factory.mktemp("weights") / "w.pt", hollow(SAT_T)).read_bytes()


@pytest.fixture
def cached(site: Site, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the published sat-t at 2 s in an empty cache folder; the server has the file."""
    site.body = weights
    monkeypatch.setenv("SATEXPORT_MIRROR", site.url)
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "published" / NAME


def checkpoint_refusal() -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint("published", SAT_T)
    return str(caught.value)


def test_every_variant_has_a_published_file_with_a_matching_name() -> None:
    assert len({published.file for (published,) in PUBLISHED.values()}) == 13
    assert PUBLISHED.keys() == {variant.name for variant in VARIANTS.values()}
    for variant in VARIANTS.values():
        (published,) = PUBLISHED[variant.name]
        sizes = {"t": ("SAT_T", "tiny"), "s": ("SAT_S", "small"), "b": ("SAT_B", "base")}
        size = sizes.get(variant.model[-1])
        if variant.has_cache and size:
            start, record = f"{size[0]}_stream{variant.delay}s_mAP_", "7964975"
        elif size and variant.model.startswith("vit"):
            start, record = f"audiotransformer_{size[1]}_mAP_4", "7964975"
        else:
            start = f"audiotransformer_{variant.model.removeprefix('ced-')}_mAP_4"
            record = "8275319" if variant.model == "ced-small" else "8275347"
            assert published.licence == "Apache-2.0"
        assert published.file.startswith(start)
        assert published.url == f"https://zenodo.org/record/{record}/files/{published.file}?download=1"


def test_a_published_checkpoint_is_fetched_once_and_its_hash_is_recorded(site: Site, cached: Path) -> None:
    loaded = load_checkpoint("published", SAT_T)
    assert site.asked[0]["path"] == f"/{NAME}"
    assert (loaded.name, loaded.source, loaded.sha256) == (NAME, "file", sha256_of(cached))
    assert cached.with_name(f"{NAME}.sha256").read_text() == f"{loaded.sha256}  {NAME}\n"
    assert load_checkpoint("published", SAT_T).sha256 == loaded.sha256
    assert len(site.asked) == 1
    assert find_by_sha256(loaded.sha256) == cached  # as parity looks for it
    assert sorted(os.listdir(cached.parent)) == [NAME, f"{NAME}.sha256"]


@pytest.mark.parametrize("delay", [1, 2, 10])
def test_a_vit_is_one_file_at_every_delay(cached: Path, delay: int) -> None:
    with fetch_published(PUBLISHED[f"vit-t-{delay}s"][0]) as path:
        assert path == cached.with_name("audiotransformer_tiny_mAP_44_15.pt")


def test_a_file_put_into_the_cache_by_hand_needs_no_network(site: Site, cached: Path, weights: bytes) -> None:
    cached.parent.mkdir(parents=True)
    cached.write_bytes(weights)
    loaded = load_checkpoint("published", SAT_T)
    assert not site.asked
    assert cached.with_name(f"{NAME}.sha256").read_text().startswith(loaded.sha256)


def test_a_file_that_changed_since_its_first_use_is_refused(site: Site, cached: Path, weights: bytes) -> None:
    first = load_checkpoint("published", SAT_T).sha256
    save_torch(cached, {"model": hollow(SAT_T), "epoch": 2})  # another valid file
    message = checkpoint_refusal()
    assert f"has SHA-256 {sha256_of(cached)[:12]}..., expected {first}" in message
    assert f"remove {cached}.sha256" in message
    assert cached.is_file()
    cached.unlink()
    assert load_checkpoint("published", SAT_T).sha256 == first


def test_a_file_that_the_server_changed_since_the_first_use_is_refused(site: Site, cached: Path) -> None:
    load_checkpoint("published", SAT_T)
    cached.unlink()
    site.body = save_torch(cached.parent / "new.pt", {"model": hollow(SAT_T)}).read_bytes()
    assert "as at its first use" in checkpoint_refusal()


def test_a_damaged_note_is_an_error(cached: Path) -> None:
    load_checkpoint("published", SAT_T)
    cached.with_name(f"{NAME}.sha256").write_bytes(b"\xff" * 1000)
    assert f"remove {cached}.sha256" in checkpoint_refusal()


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Log in</title>", b"", b"PK\x03\x04 and no more"],
                         ids=["page", "empty", "truncated"])
def test_a_download_that_is_not_a_checkpoint_is_removed_without_a_note(
        site: Site, cached: Path, weights: bytes, body: bytes) -> None:
    site.body = body
    message = checkpoint_refusal()
    assert "The downloaded file was removed" in message
    assert site.url in message
    assert not os.listdir(cached.parent)
    site.body = weights
    load_checkpoint("published", SAT_T)


def test_a_file_of_another_variant_put_there_by_hand_is_kept_without_a_note(
        site: Site, cached: Path) -> None:
    cached.parent.mkdir(parents=True)
    save_torch(cached, hollow(find_model("sat-s")[2]))
    message = checkpoint_refusal()
    assert "looks like sat-s" in message
    assert "Remove it to download it again" in message
    assert os.listdir(cached.parent) == [NAME]
    assert not site.asked


def test_the_error_for_a_failed_download_names_other_ways_to_get_weights(site: Site, cached: Path) -> None:
    site.status = 404
    result = call("onnx", "--model", "sat-t")  # --checkpoint published is the default
    assert result.code == 5
    assert f"fetch {site.url}/{NAME} by hand and put it at {cached}" in result.err
    assert "demo and random" in result.err
    assert result.out == ""


def test_without_a_cache_folder_the_error_says_how_to_choose_one(
        cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"cannot be written .*SATEXPORT_CACHE=DIR"):
        load_checkpoint("published", SAT_T)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(files, "cache_folder", homeless)
    with pytest.raises(RunError, match="SATEXPORT_CACHE=DIR"):
        load_checkpoint("published", SAT_T)


# A model with several public files, and files without an address.

@pytest.fixture
def several(site: Site, cached: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder. The public files of sat-t at 2 s are now three: the usual one, `b.pt`, which the
    server has, and `c (2).pt`, to which only a page has a link."""
    monkeypatch.delenv("SATEXPORT_MIRROR")
    others = (Published(url=f"{site.url}/b.pt", file="b.pt"),
              Published(url=None, file="c (2).pt", page="https://example.org/list", hub="owner/repo"))
    monkeypatch.setitem(PUBLISHED, "sat-t-2s", (*PUBLISHED["sat-t-2s"], *others))
    return cached.parent


@pytest.mark.parametrize("name", ["b.pt", "b"])
def test_another_public_file_of_a_model_is_taken_by_its_name(several: Path, name: str) -> None:
    loaded = load_checkpoint(f"published:{name}", SAT_T)
    assert (loaded.name, loaded.source) == ("b.pt", "file")
    assert sorted(os.listdir(several)) == ["b.pt", "b.pt.sha256"]


def test_a_public_file_that_the_model_does_not_have_is_wrong_use(several: Path, site: Site) -> None:
    result = call("onnx", "--model", "sat-t", "--checkpoint", "published:d.pt")
    assert result.code == 2
    assert "no published checkpoint 'd.pt' of sat-t-2s" in result.err
    assert f"published:{NAME} or published:b.pt or published:c (2).pt" in result.err
    assert not site.asked


def test_the_error_names_the_model_that_has_the_file(several: Path) -> None:
    result = call("onnx", "--checkpoint", "published:mn04_as_mAP_432")
    assert (result.code, "add --model mn04 " in result.err) == (2, True)
    result = call("onnx", "--model", "sat-t", "--checkpoint", "published:mn04_as_mAP_432.pt")
    assert (result.code, "It is one of mn04: pass --model mn04." in result.err) == (2, True)


def test_a_file_without_an_address_is_fetched_by_hand(several: Path, weights: bytes) -> None:
    result = call("onnx", "--model", "sat-t", "--checkpoint", "published:c (2)")
    assert result.code == 4
    assert (f"c (2).pt has no direct address: fetch it from https://example.org/list and put it at "
            f"{several / 'c (2).pt'}, or pass --checkpoint hub:owner/repo") in result.err
    several.mkdir(parents=True)
    (several / "c (2).pt").write_bytes(weights)
    assert load_checkpoint("published:c (2)", SAT_T).name == "c (2).pt"


def test_the_name_of_a_public_file_tells_its_model(tmp_path: Path) -> None:
    ced = save_torch(tmp_path / PUBLISHED["ced-tiny-2s"][0].file, hollow(find_model("vit-t")[10]))
    assert recognize_variant(str(ced)) == find_model("ced-tiny")[2]  # a vit-t has the same shapes
    assert load_checkpoint(str(ced), find_model("ced-tiny")[2]).caution == ""
    with pytest.raises(CheckpointError, match=r"has the name of a published checkpoint of ced-tiny, "
                                              r"not of vit-t\. Pass --model ced-tiny; if it is another"):
        load_checkpoint(str(ced), find_model("vit-t")[2])
    other = ced.rename(tmp_path / "mine.pt")
    assert "have the same shapes" in load_checkpoint(str(other), find_model("vit-t")[2]).caution
