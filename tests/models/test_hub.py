"""Weights from the Hub: what is fetched and recorded, what its cache is good for, which model they are of."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save

from satexport.files import sha256_of
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from tests import ROOT
from tests.hub_site import COMMIT, Hub
from tests.models.tally import family
from tests.models.tally.variants import VARIANTS

WEIGHTS, OTHERS = (save(family.random(VARIANTS["tally", 1], 527, seed)) for seed in (1, 2))
CONFIG = b'{"model_type": "tally", "architectures": ["TallyForAudioClassification"]}'
LATER = "f" * 40
LOAD = """
import json, sys
from satexport.errors import SatexportError
from satexport.models.checkpoint import load_checkpoint, recognize_variant
from satexport.models.families import FAMILIES, find_variant
FAMILIES["tally"] = "tests.models.tally.family"
_, what, model = sys.argv
try:
    variant = find_variant(model) if model else recognize_variant(what)
    loaded = load_checkpoint(what, variant)
    print(json.dumps([variant.name, loaded.source, loaded.name, loaded.sha256]))
except SatexportError as error:
    print(json.dumps([error.exit_code, str(error)]))
"""


def load(what: str, model: str = "") -> list[Any]:
    """Load weights in a process of its own, of a model or of the one that they tell; [variant, source, name,
    SHA-256], or [exit code, message]."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOAD, what, model], cwd=ROOT, check=True,
                          encoding="utf-8", stdout=subprocess.PIPE)
    return list(json.loads(done.stdout))


@pytest.fixture
def tally(hub: Hub) -> Hub:
    hub.repositories["me/tally"] = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    return hub


def blobs(tmp_path: Path) -> list[Path]:
    """The contents in the Hub's cache, the largest first."""
    found = (tmp_path / "hf" / "hub" / "models--me--tally" / "blobs").iterdir()
    return sorted(found, key=lambda path: -path.stat().st_size)


def test_weights_are_fetched_once_and_named_by_commit_and_file(tally: Hub, tmp_path: Path) -> None:
    loaded = load("hub:me/tally", "tally")
    sha256 = sha256_of(blobs(tmp_path)[0])
    assert loaded == ["tally-1s", "hub", f"hub:me/tally/model.safetensors@{COMMIT}", sha256]
    assert load("hub:me/tally", "tally") == loaded
    assert tally.fetched == ["config.json", "model.safetensors"]
    assert (tmp_path / "cache" / "checkpoints" / f"{sha256}.txt").is_file()  # as parity looks for it


def test_a_named_revision_is_the_one_that_is_fetched(tally: Hub) -> None:
    tally.revisions |= {"refs/pr/1": LATER, LATER: LATER}
    for revision in ("refs/pr/1", LATER):
        assert load(f"hub:me/tally@{revision}", "tally")[2] == f"hub:me/tally/model.safetensors@{LATER}"


def test_the_hubs_own_sha256_is_checked_at_the_first_use(tally: Hub, tmp_path: Path) -> None:
    tally.states_sha256_of = OTHERS
    code, message = load("hub:me/tally", "tally")
    assert (code, "as published: the file was changed or damaged. Remove " in message) == (4, True)
    assert f"Remove {blobs(tmp_path)[0]}, and it is fetched again" in message
    assert not list((tmp_path / "cache").rglob("*.sha256"))
    tally.states_sha256_of = None
    assert load("hub:me/tally", "tally")[1] == "hub"


@pytest.mark.parametrize("states", [True, False], ids=["stated, then offline", "not stated"])
def test_a_file_must_stay_as_at_its_first_use(
        states: bool, tally: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally.knows_sha256 = states
    sha256 = load("hub:me/tally", "tally")[3]
    note = tmp_path / "cache" / "hub" / "me" / "tally" / COMMIT / "model.safetensors.sha256"
    assert note.read_text() == f"{sha256}  model.safetensors\n"
    monkeypatch.setenv("HF_HUB_OFFLINE", str(int(states)))
    blobs(tmp_path)[0].write_bytes(OTHERS)
    code, message = load("hub:me/tally", "tally")
    assert (code, f"expected {sha256} as at its first use ({note})" in message) == (4, True)
    assert f"if you trust it as it is, remove {note}" in message
    note.unlink()
    assert load("hub:me/tally", "tally")[1] == "hub"


@pytest.mark.parametrize("settings", [
    {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=str)
def test_what_the_cache_has_needs_no_network(
        settings: dict[str, str], tally: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("hub:me/tally")
    tally.asked.clear()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for what in ("hub:me/tally", "hub:me/tally@main", loaded[2]):
        assert load(what) == loaded
    assert load("hub:me/tally/other.pt")[0] == 4
    assert tally.asked == []


def test_a_hub_that_is_down_is_replaced_by_its_cache(tally: Hub) -> None:
    loaded = load("hub:me/tally")
    tally.status = 503
    assert load("hub:me/tally") == loaded


def test_a_cache_that_cannot_be_written_is_read(tally: Hub, tmp_path: Path) -> None:
    loaded = load("hub:me/tally")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").touch()
    assert load("hub:me/tally") == loaded


def test_a_repository_that_changes_while_it_is_read_is_said(tally: Hub) -> None:
    tally.moves_to = LATER
    code, message = load("hub:me/tally")
    assert (code, f"was at {COMMIT} and is now at {LATER}" in message) == (5, True)


def test_a_token_goes_to_the_hub_and_to_nobody_else(
        tally: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    load("hub:me/tally", "tally")
    sent = {asked.path.startswith("/storage/"): asked.headers.get("authorization") for asked in tally.asked}
    assert sent == {False: "Bearer hf_mine", True: None}
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf" / "token").write_text("hf_stored")  # as `hf auth login` leaves it
    load("hub:me/tally", "tally")
    assert tally.asked[-1].headers["authorization"] == "Bearer hf_stored"


def test_nothing_is_reported_but_what_asks(
        tally: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("hub:me/tally", "tally")
    assert {asked.path.split("/")[1] for asked in tally.asked} == {"api", "me", "storage"}
    assert [asked.path for asked in tally.asked if asked.path.startswith("/api/")] == ["/api/models/me/tally"]
    for asked in tally.asked:
        names = [word.partition("/")[0] for word in asked.headers["user-agent"].split("; ")]
        assert names == ["satexport", "hf_hub", "python"]
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")  # a choice of the user's own
    shutil.rmtree(tmp_path / "hf")
    load("hub:me/tally", "tally")
    assert "/api/agent-harnesses" in {asked.path for asked in tally.asked}


# Which model it is.

@pytest.mark.parametrize("config", [CONFIG, b'{"architectures": ["TallyForAudioClassification"]}',
                                    b'{"model_type": "tally", "architectures": null}', b"{}", None], ids=str)
def test_without_a_model_shapes_and_configuration_tell_it(config: bytes | None, tally: Hub) -> None:
    files = tally.repositories["me/tally"]
    files.pop("config.json")
    if config is not None:
        files["config.json"] = config
    assert load("hub:me/tally")[0] == "tally-1s"


def test_a_configuration_tells_models_apart_that_shapes_do_not(tally: Hub) -> None:
    sat = load_checkpoint("random", find_variant("sat-t", 2)).state
    both = sat | family.random(VARIANTS["tally", 1], 527, 0)
    files = tally.repositories["me/tally"]
    files |= {"model.safetensors": save(both), "config.json": b"{}"}
    code, message = load("hub:me/tally")
    assert (code, "could be a checkpoint of sat-t or of tally: say which" in message) == (2, True)
    files["config.json"] = CONFIG
    tally.revisions = {"main": LATER}
    code, message = load("hub:me/tally")  # it is told, and then its reader is strict
    assert (code, "model.safetensors: is no tally." in message) == (4, True)


def test_a_model_that_the_configuration_excludes_is_refused_before_weights_are_fetched(tally: Hub) -> None:
    code, message = load("hub:me/tally", "sat-t")
    assert (code, "says that the model is 'TallyForAudioClassification' and 'tally'" in message) == (4, True)
    assert "pass --model tally, or leave --model out" in message
    assert tally.fetched == ["config.json"]
