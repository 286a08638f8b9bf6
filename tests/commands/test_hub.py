"""`--checkpoint hub:OWNER/REPO`: what the Hub does not hand out, and what it hands out damaged, is answered
in words and with an exit code. The Hub is a server on this machine, huggingface_hub is the real one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import save

from satexport.models.checkpoint import load_checkpoint
from satexport.models.families import find_variant
from tests.commands.calls import START, Result, start
from tests.forked import Forks
from tests.hub_site import COMMIT, Hub
from tests.machine import PATIENCE, need_posix
from tests.tiny import SAT, SAT_2S

NOTHING = "http://127.0.0.1:9"  # the port is closed
WEIGHTS = save(load_checkpoint("random", find_variant(SAT)).state)
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
FIND = """
import sys
from satexport.bundle.folder import open_bundle
from satexport.errors import CheckpointError
from satexport.models.checkpoint import find_weights
try:
    print(find_weights(open_bundle(sys.argv[1]), *sys.argv[2:]).sha256)
except CheckpointError as error:
    print(error)
"""
NAME = f"hub:me/tiny/model.safetensors@{COMMIT}"


Run = Callable[..., Result]


@pytest.fixture
def run(forks: Forks) -> Run:
    """Run a command in a process of its own, for huggingface_hub reads its settings once per process;
    `before` is Python code that runs before it."""
    def run(*arguments: object, before: str = "") -> Result:
        result = forks.run(f"{before}\n{START}", *arguments)
        assert "Traceback" not in result.err
        return result

    return run


@pytest.fixture
def export(run: Run) -> Run:
    """Without --model the repository is looked at before PyTorch is imported, which is quick."""
    def export(name: str, output: Path, *more: object, before: str = "") -> Result:
        return run("onnx", "--checkpoint", name, "--no-simplify", "--output", output, *more, before=before)

    return export


@pytest.fixture
def tiny_hub(hub: Hub) -> Hub:
    hub.repositories["me/tiny"] = {"README.md": b"mine", "model.safetensors": WEIGHTS}
    return hub


def gate(hub: Hub) -> None:
    hub.gated.add("me/tiny")


def say_bert(hub: Hub) -> None:
    config = {"model_type": "bert", "architectures": ["BertModel"]}
    hub.repositories["me/tiny"]["config.json"] = json.dumps(config).encode()


def damage_config(hub: Hub) -> None:
    hub.repositories["me/tiny"]["config.json"] = b"[" * 100_000


def answer_503(hub: Hub) -> None:
    hub.status = 503


def lose_a_byte(hub: Hub) -> None:
    hub.lost = 1


def store_half(hub: Hub) -> None:
    hub.repositories["me/tiny"]["model.safetensors"] = WEIGHTS[:len(WEIGHTS) // 2]


def nothing(hub: Hub) -> None:
    """Everything is as it should be."""


@pytest.mark.parametrize(("name", "settings", "prepare", "code", "words"), [
    ("hub:tiny", {}, nothing, 2, "hub:tiny: is not a name on the Hugging Face Hub; expected hub:OWNER/REPO"),
    ("hub:me/none", {}, nothing, 4, "has no such repository, or it is private; expected hub:OWNER/REPO"),
    ("hub:me/none", {"HF_TOKEN": "hf_a"}, nothing, 4, "has no such repository, or it is private"),
    ("hub:me/tiny", {"HF_TOKEN": "hf_wrong"}, nothing, 4, "does not accept the token that was sent"),
    ("hub:me/tiny", {}, gate, 4, "is gated; expected the token of an account that has accepted its terms"),
    ("hub:me/tiny", {"HF_TOKEN": "hf_a"}, gate, 4, "then log in with `hf auth login` or set HF_TOKEN"),
    ("hub:me/tiny@v9", {}, nothing, 4, "has no revision 'v9'; expected a branch, tag or commit"),
    ("hub:me/tiny/a.pt", {}, nothing, 4, "has no file 'a.pt' at 0123456789abcdef"),
    ("hub:me/tiny", {}, say_bert, 4, "says that the model is 'BertModel' and 'bert', expected"),
    ("hub:me/tiny", {}, damage_config, 4, f"config.json@{COMMIT}: cannot be read"),
    ("hub:me/tiny", {}, store_half, 4, "is a damaged safetensors file, probably truncated"),
    ("hub:me/tiny", {}, lose_a_byte, 5, "the transfer broke off (Consistency check failed"),
    ("hub:me/tiny", {}, answer_503, 5, "cannot serve it now (status 503): try again later"),
    ("hub:me/tiny", {"HF_ENDPOINT": NOTHING}, nothing, 5, f"no answer from {NOTHING} ("),
    ("hub:me/tiny", {"HF_ENDPOINT": "nonsense"}, nothing, 5, "no answer from nonsense ("),
    ("hub:me/tiny", {"HF_ENDPOINT": "http://["}, nothing, 2, "huggingface_hub refuses its settings ("),
    ("hub:me/tiny", {"HF_HUB_OFFLINE": "1"}, nothing, 5, "is not in the cache "),
    ("hub:me/tiny", {"HF_HOME": "{file}"}, nothing, 5, "cannot be written (")], ids=lambda value: getattr(
        value, "__name__", str(value)[:40]))
def test_what_cannot_be_had_ends_with_its_exit_code_and_says_what_to_do(
        name: str, settings: dict[str, str], prepare: Callable[[Hub], None], code: int, words: str,
        tiny_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: Run) -> None:
    (tmp_path / "file").touch()
    for key, value in settings.items():
        monkeypatch.setenv(key, value.format(file=tmp_path / "file"))
    prepare(tiny_hub)
    result = export(name, tmp_path / "out")
    assert (result.code, result.out) == (code, "")
    assert words in result.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.incomplete"))
    assert not list((tmp_path / "cache").rglob("*.sha256"))


@pytest.mark.parametrize("prepare", [say_bert, damage_config])
def test_weights_of_another_architecture_are_not_fetched(
        prepare: Callable[[Hub], None], tiny_hub: Hub, tmp_path: Path, export: Run) -> None:
    prepare(tiny_hub)
    assert export("hub:me/tiny", tmp_path / "out").code == 4
    assert tiny_hub.fetched == ["config.json"]


def test_without_huggingface_hub_the_extra_is_named(tiny_hub: Hub, tmp_path: Path, export: Run) -> None:
    absent = "import sys; sys.modules['huggingface_hub'] = None"
    result = export("hub:me/tiny", tmp_path / "out", before=absent)
    assert (result.code, result.out) == (3, "")
    assert "huggingface_hub is not installed: pip install 'satexport[hub]'" in result.err


def test_a_full_disk_leaves_no_part_behind(tiny_hub: Hub, tmp_path: Path) -> None:
    need_posix("resource")
    process = start("onnx", "--checkpoint", "hub:me/tiny", "--output", tmp_path / "out", before=FULL_DISK)
    err = process.communicate(timeout=PATIENCE)[1]  # through a pipe, which the limit leaves alone
    assert (process.returncode, "cannot be written (File too large)" in err) == (5, True)
    assert "make room, or set HF_HOME=DIR" in err
    assert not list(tmp_path.rglob("*.incomplete"))


def test_an_interrupt_while_weights_come_ends_with_130_and_leaves_no_part(
        tiny_hub: Hub, tmp_path: Path) -> None:
    tiny_hub.hold.clear()
    process = start("onnx", "--checkpoint", "hub:me/tiny", "--output", tmp_path / "out",
                    before="import signal; signal.signal(signal.SIGINT, signal.default_int_handler)")
    while not list(tmp_path.rglob("*.incomplete")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    tiny_hub.hold.set()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "Interrupted; no file was left incomplete."
    assert not list(tmp_path.rglob("*.incomplete"))
    assert not (tmp_path / "out").exists()


def test_a_word_that_tells_no_model_mentions_the_hub(tmp_path: Path, run: Run) -> None:
    result = run("onnx", "--checkpoint", "random", "--output", tmp_path)
    assert (result.code, "or pass a file or hub:OWNER/REPO" in result.err) == (2, True)


def test_a_bundle_of_hub_weights_names_them_so_that_they_are_found_again(
        tiny_hub: Hub, tmp_path: Path, export: Run, run: Run, forks: Forks) -> None:
    made = export("hub:me/tiny", tmp_path, "--model", SAT, "--json")
    assert made.code == 0, made.err
    origin = json.loads(made.out)["checkpoint"]
    assert (origin["name"], origin["source"]) == (NAME, "hub")

    def find(*more: str) -> str:
        """What parity and measure take as the weights of the bundle."""
        return forks.run(FIND, tmp_path / SAT_2S / "onnx", *more).out.strip()

    tiny_hub.requests.clear()
    assert find() == origin["sha256"]
    assert tiny_hub.requests == []  # found by its SHA-256 in the Hub's cache
    (tmp_path / "hf").rename(tmp_path / "elsewhere")
    assert f"which is not known on this machine: pass --checkpoint {NAME}, or use --golden" in find()
    assert find(NAME) == origin["sha256"]
    assert tiny_hub.fetched == ["model.safetensors"]
