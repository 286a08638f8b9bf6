"""Weights from the Hub: what is fetched and recorded, when the cache is enough, and which model it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save

from satexport.files import sha256_of
from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from tests.forked import Forks
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
Load = Callable[..., list[Any]]


@pytest.fixture
def load(forks: Forks) -> Load:
    """Load weights in a new process, as the given model or as the one that they are recognised as. Returns
    [variant, source, name, SHA-256] or [exit code, message]."""
    def load(what: str, model: str = "") -> list[Any]:
        return list(json.loads(forks.run(LOAD, what, model).out))

    return load


@pytest.fixture
def tally(hub: Hub) -> Hub:
    hub.repositories["me/tally"] = {"config.json": CONFIG, "model.safetensors": WEIGHTS}
    return hub


def blobs(tmp_path: Path) -> list[Path]:
    """Return the files in the Hub's cache, the largest first."""
    folder = tmp_path / "hf" / "hub" / "models--me--tally" / "blobs"
    return sorted(folder.iterdir(), key=lambda path: -path.stat().st_size)


def test_weights_are_fetched_once_and_named_by_commit_and_file(
        tally: Hub, load: Load, tmp_path: Path) -> None:
    loaded = load("hub:me/tally", "tally")
    sha256 = sha256_of(blobs(tmp_path)[0])
    assert loaded == ["tally-1s", "hub", f"hub:me/tally/model.safetensors@{COMMIT}", sha256]
    assert load("hub:me/tally", "tally") == loaded
    assert tally.fetched == ["config.json", "model.safetensors"]
    assert (tmp_path / "cache" / "checkpoints" / f"{sha256}.txt").is_file()  # as parity looks for it


def test_a_named_revision_is_fetched(
        tally: Hub, load: Load) -> None:
    tally.revisions |= {"refs/pr/1": LATER, LATER: LATER}
    for revision in ("refs/pr/1", LATER):
        assert load(f"hub:me/tally@{revision}", "tally")[2] == f"hub:me/tally/model.safetensors@{LATER}"


def test_the_sha256_that_the_hub_states_is_checked_at_the_first_use(
        tally: Hub, load: Load, tmp_path: Path) -> None:
    tally.states_sha256_of = OTHERS
    code, message = load("hub:me/tally", "tally")
    assert (code, "as published: the file was changed or damaged. Remove " in message) == (4, True)
    assert f"Remove {blobs(tmp_path)[0]} to fetch it again" in message
    assert not list((tmp_path / "cache").rglob("*.sha256"))
    tally.states_sha256_of = None
    assert load("hub:me/tally", "tally")[1] == "hub"


@pytest.mark.parametrize("states", [True, False], ids=["stated, then offline", "not stated"])
def test_a_file_that_changed_since_its_first_use_is_refused(
        states: bool, tally: Hub, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_cached_weights_need_no_network(
        settings: dict[str, str], tally: Hub, load: Load, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("hub:me/tally")
    tally.requests.clear()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for what in ("hub:me/tally", "hub:me/tally@main", loaded[2]):
        assert load(what) == loaded
    assert load("hub:me/tally/other.pt")[0] == 4
    assert tally.requests == []


def test_the_cache_is_used_while_the_hub_is_down(tally: Hub, load: Load) -> None:
    loaded = load("hub:me/tally")
    tally.status = 503
    assert load("hub:me/tally") == loaded


def test_weights_load_if_the_cache_folder_cannot_be_written(tally: Hub, load: Load, tmp_path: Path) -> None:
    loaded = load("hub:me/tally")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").touch()
    assert load("hub:me/tally") == loaded


def test_a_repository_that_changes_during_the_download_is_an_error(tally: Hub, load: Load) -> None:
    tally.moves_to = LATER
    code, message = load("hub:me/tally")
    assert (code, f"was at commit {COMMIT} and is now at {LATER}" in message) == (5, True)


def test_a_token_is_sent_only_to_the_hub(
        tally: Hub, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    load("hub:me/tally", "tally")
    sent = {request.path.startswith("/storage/"): request.headers.get("authorization")
            for request in tally.requests}
    assert sent == {False: "Bearer hf_mine", True: None}
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf" / "token").write_text("hf_stored")  # as `hf auth login` writes it
    load("hub:me/tally", "tally")
    assert tally.requests[-1].headers["authorization"] == "Bearer hf_stored"


def test_requests_report_only_the_program_unless_the_user_allows_telemetry(
        tally: Hub, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("hub:me/tally", "tally")
    paths = [request.path for request in tally.requests]
    assert {path.split("/")[1] for path in paths} == {"api", "me", "storage"}
    assert [path for path in paths if path.startswith("/api/")] == ["/api/models/me/tally"]
    for request in tally.requests:
        names = [word.partition("/")[0] for word in request.headers["user-agent"].split("; ")]
        assert names == ["satexport", "hf_hub", "python"]
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")  # the user's choice
    shutil.rmtree(tmp_path / "hf")
    load("hub:me/tally", "tally")
    assert "/api/agent-harnesses" in {request.path for request in tally.requests}


# Recognising the model.

@pytest.mark.parametrize("config", [CONFIG, b'{"architectures": ["TallyForAudioClassification"]}',
                                    b'{"model_type": "tally", "architectures": null}', b"{}", None], ids=str)
def test_shapes_and_configuration_tell_the_model(config: bytes | None, tally: Hub, load: Load) -> None:
    files = tally.repositories["me/tally"]
    files.pop("config.json")
    if config is not None:
        files["config.json"] = config
    assert load("hub:me/tally")[0] == "tally-1s"


def test_a_configuration_distinguishes_models_of_the_same_shapes(tally: Hub, load: Load) -> None:
    sat = load_checkpoint("random", find_variant("sat-t", 2)).state
    both = sat | family.random(VARIANTS["tally", 1], 527, 0)
    files = tally.repositories["me/tally"]
    files |= {"model.safetensors": save(both), "config.json": b"{}"}
    code, message = load("hub:me/tally")
    assert (code, "could be a checkpoint of sat-t or of tally: say which" in message) == (2, True)
    files["config.json"] = CONFIG
    tally.revisions = {"main": LATER}
    code, message = load("hub:me/tally")  # recognised as a tally, whose reader is strict
    assert (code, "model.safetensors: is not a tally." in message) == (4, True)


def test_a_model_that_the_configuration_excludes_is_refused_before_weights_are_fetched(
        tally: Hub, load: Load) -> None:
    code, message = load("hub:me/tally", "sat-t")
    assert (code, "says that the model is 'TallyForAudioClassification' and 'tally'" in message) == (4, True)
    assert "pass --model tally, or leave --model out" in message
    assert tally.fetched == ["config.json"]
