"""What loads, what is refused and in which words, and that nothing in a file is executed."""

from __future__ import annotations

import codecs
import errno
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from satexport import files
from satexport.audio.labels import audioset_labels
from satexport.errors import CheckpointError, DataError, UsageError
from satexport.files import sha256_of
from satexport.frontends import log_mel as frontend
from satexport.models import weightfile as checkpoint_file
from satexport.models.checkpoint import load_checkpoint
from satexport.models.family import Checkpoint
from satexport.models.sat import family, keys
from satexport.models.sat.keys import expected_shapes
from satexport.models.sat.network import Transformer
from satexport.models.sat.variants import LOG_MEL, VARIANTS, Variant, find_model

State = dict[str, Tensor]
SAT_T = find_model("sat-t")[2]
COUNTER = "init_bn.1.num_batches_tracked"
WEIGHT = "blocks.3.mlp.fc1.bias"


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small models on a busy machine: several threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sat_t() -> State:
    """The state dict of the model itself, which does not know `expected_shapes`."""
    return dict(Transformer(SAT_T).state_dict())


def hollow(variant: Variant, classes: int = 527) -> State:
    """The same of any variant with all weights zero: a small file with the right shapes."""
    with torch.device("meta"):
        state = Transformer(variant, classes).state_dict()
    return {key: value if value.device.type == "cpu" else torch.zeros(()).expand(value.shape)
            for key, value in state.items()}


def save_torch(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def save_safetensors(path: Path, state: State) -> Path:
    safetensors.torch.save_file(state, path)
    return path


both_formats = pytest.mark.parametrize("save", [save_torch, save_safetensors])
Save = Callable[[Path, State], Path]


def refusal(path: Path, variant: Variant = SAT_T) -> str:
    """The message of the error that loading the file raises."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(path), variant)
    assert str(path) in str(caught.value)
    return str(caught.value)


# What loads.

@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda v: v.name)
def test_expected_shapes_are_those_of_the_model(variant: Variant) -> None:
    with torch.device("meta"):
        state = Transformer(variant, 7).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items() if key != COUNTER}
    assert expected_shapes(variant, 7) == shapes


@both_formats
def test_a_state_dict_loads_value_for_value(save: Save, sat_t: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save(tmp_path / "w.pt", sat_t)), SAT_T)
    assert loaded.state.keys() == sat_t.keys() - {COUNTER}
    for key, value in loaded.state.items():
        assert value.dtype == np.float32
        assert value.flags.c_contiguous
        np.testing.assert_array_equal(value, sat_t[key].numpy())
    assert (loaded.source, loaded.name, loaded.dtype) == ("file", "w.pt", "float32")
    assert loaded.source == "file"
    assert (loaded.classes, loaded.labels) == (527, audioset_labels())
    assert loaded.sha256 == sha256_of(tmp_path / "w.pt")


def test_a_loaded_state_fits_the_model_strictly(sat_t: State, tmp_path: Path) -> None:
    loaded = load_checkpoint(str(save_torch(tmp_path / "w.pt", sat_t)), SAT_T)
    Transformer(SAT_T).load_state_dict(
        {key: torch.from_numpy(value) for key, value in loaded.state.items()}, strict=True)


def test_the_entry_model_of_a_training_checkpoint_loads(sat_t: State, tmp_path: Path) -> None:
    content = {"config": {"lr": 1e-3, "name": "run"}, "epoch": 3, "model": sat_t}
    loaded = load_checkpoint(str(save_torch(tmp_path / "run.pth", content)), SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


def test_the_content_decides_and_not_the_ending(sat_t: State, tmp_path: Path) -> None:
    for path in (save_safetensors(tmp_path / "w.pt", sat_t),
                 save_torch(tmp_path / "w.safetensors", sat_t)):
        assert load_checkpoint(str(path), SAT_T).classes == 527


def test_a_file_of_torch_before_1_6_loads(sat_t: State, tmp_path: Path) -> None:
    torch.save(sat_t, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    loaded = load_checkpoint(str(tmp_path / "old.pt"), SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


@both_formats
def test_half_precision_becomes_float32_and_is_named(
        save: Save, sat_t: State, tmp_path: Path) -> None:
    half = {key: value if key == "norm.bias" else value.half() for key, value in sat_t.items()}
    loaded = load_checkpoint(str(save(tmp_path / "half.pt", half)), SAT_T)
    assert loaded.dtype == "float16"
    np.testing.assert_array_equal(loaded.state[WEIGHT], half[WEIGHT].float().numpy())
    np.testing.assert_array_equal(loaded.state["front_end.0.mel_scale.fb"],
                                  frontend.mel_filterbank(LOG_MEL).astype(np.float32))


def test_the_counter_of_batches_may_be_missing(sat_t: State, tmp_path: Path) -> None:
    state = {key: value for key, value in sat_t.items() if key != COUNTER}
    assert load_checkpoint(str(save_torch(tmp_path / "w.pt", state)), SAT_T).classes == 527


def test_safetensors_and_random_weights_load_without_torch(sat_t: State, tmp_path: Path) -> None:
    path = save_safetensors(tmp_path / "w.safetensors", sat_t)
    code = ("import sys; sys.modules['torch'] = None\n"
            "from satexport.models.checkpoint import load_checkpoint\n"
            "from satexport.models.families import find_variant\n"
            f"for what in (r'{path}', 'random'): load_checkpoint(what, find_variant('sat-t', 2))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sat_s_loads_at_either_delay(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "s.pt", hollow(find_model("sat-s")[1]))
    for delay in (1, 2):
        loaded = load_checkpoint(str(path), find_model("sat-s")[delay])
        assert loaded.state["time_pos_embed"].shape == (1, 384, 1, 24)


@pytest.mark.parametrize("columns", [1, 12, 62, 63, 64, 101])
def test_the_time_code_of_a_vit_is_cut_or_resized_as_published(
        columns: int, tmp_path: Path) -> None:
    variant = find_model("vit-t")[10]
    code = torch.randn(1, 192, 1, columns)
    path = save_torch(tmp_path / "v.pt", hollow(variant) | {"time_pos_embed": code})
    found = load_checkpoint(str(path), variant).state["time_pos_embed"]
    wanted = code[..., :63] if columns >= 63 else torch.nn.functional.interpolate(
        code, size=(1, 63), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-5)


# Labels.

def test_another_number_of_classes_needs_a_labels_file(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(SAT_T, classes=3))
    assert refusal(path).endswith("names are known for AudioSet's 527: "
                                  "pass --labels FILE with 3 lines.")
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\nrain\n")
    loaded = load_checkpoint(str(path), SAT_T, labels=names)
    assert (loaded.classes, loaded.labels) == (3, ("dog", "cat", "rain"))
    names.write_text("dog\ncat\n")
    with pytest.raises(DataError, match=r"has 2 labels, w\.pt has 3 classes"):
        load_checkpoint(str(path), SAT_T, labels=names)


def test_random_weights_take_the_classes_of_a_labels_file(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\n")
    loaded = load_checkpoint("random", SAT_T, labels=names)
    assert loaded.state["outputlayer.1.weight"].shape == (2, 192)
    assert loaded.labels == ("dog", "cat")


# Another model than the one that was asked for.

@pytest.mark.parametrize(("is_a", "asked", "advice"), [
    (("sat-s", 2), ("sat-t", 2), "sat-s at 1 s or 2 s (its shapes do not tell which): pass"),
    (("sat-s", 2), ("sat-b", 2), "pass --model sat-s --delay 2."),
    (("sat-s", 2), ("sat-t", 1), "pass --model sat-s --delay 1."),
    (("sat-t", 2), ("sat-s", 2), "sat-t at 2 s: pass --model sat-t --delay 2."),
    (("sat-t", 1), ("sat-t", 2), "sat-t at 1 s: pass --model sat-t --delay 1."),
    (("sat-t", 2), ("sat-t", 1), "sat-t at 2 s: pass --model sat-t --delay 2."),
    (("sat-t", 1), ("vit-t", 10), "sat-t at 1 s: pass --model sat-t --delay 1."),
    (("vit-t", 10), ("sat-t", 2), "pass --model vit-t --delay 2."),
    (("vit-s", 10), ("vit-t", 10), "pass --model vit-s --delay 10."),
])
def test_a_file_of_another_variant_is_recognised(
        is_a: tuple[str, int], asked: tuple[str, int], advice: str, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(VARIANTS[is_a]))
    assert advice in refusal(path, VARIANTS[asked])


def test_a_wrong_delay_is_told_by_the_width_of_the_time_code(tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", hollow(find_model("sat-t")[1]))
    assert ("is no sat-t at 2 s: time_pos_embed is (1, 192, 1, 12), expected (1, 192, 1, 24). "
            "This looks like sat-t at 1 s") in refusal(path)


def test_a_foreign_checkpoint_is_called_no_sat_or_vit(shared: Path) -> None:
    message = refusal(shared / "checkpoints" / "mn04_as_mAP_432.pt")
    assert "It is no SAT or ViT" in message
    assert "features.0.0.weight (8, 1, 3, 3) is not expected" in message


def test_three_misfits_are_named_and_all_are_counted(sat_t: State, tmp_path: Path) -> None:
    state = {key: value for key, value in sat_t.items() if not key.startswith("blocks.5.norm")}
    state |= {WEIGHT: torch.zeros(5), "extra": torch.zeros(2)}
    message = refusal(save_torch(tmp_path / "w.pt", state))
    assert (f"{WEIGHT} is (5,), expected (768,); extra (2,) is not expected; "
            "blocks.5.norm1.weight (192,) is missing; 6 misfits in all. The rest of it fits"
            ) in message


def test_one_surplus_entry_is_an_error(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", sat_t | {"extra": torch.zeros(2)})
    assert "extra (2,) is not expected" in refusal(path)


@pytest.mark.parametrize("prefix", ["module.", "model._orig_mod."])
def test_a_prefix_is_named_with_the_way_to_strip_it(
        prefix: str, sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {prefix + key: v for key, v in sat_t.items()})
    assert f"k.removeprefix('{prefix}')" in refusal(path)


def renamed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


FOREIGN = {"teacher." + name: torch.zeros(2) for name in ("a", "b", "c", "d")}
WRAPPED: dict[str, Callable[[State], object]] = {
    "DataParallel": lambda s: renamed(s, "module."),
    "compiled, in a model": lambda s: renamed(s, "module.model._orig_mod."),
    "the entry model, DataParallel": lambda s: {"model": renamed(s, "module."), "epoch": 3},
    "Lightning": lambda s: {"epoch": 3, "state_dict": renamed(s, "net."), "optimizer_states": [{"state": {}}],
                            "hyper_parameters": {"lr": 1e-3}},
    "Lightning beside a model of its own": lambda s: {"model": {"name": "sat"}, "state_dict": s},
    "Lightning with a teacher": lambda s: {"state_dict": renamed(s, "net.") | FOREIGN},
    "Lightning with a loss": lambda s: {"state_dict": renamed(s, "net.") | {"net.loss": torch.zeros(1)}},
    "EMA": lambda s: {"model_ema": renamed(s, "ema_model.") | {"initted": torch.ones(1), "step": 3}},
    "EMA of timm": lambda s: {"arch": "sat_t", "state_dict": s, "state_dict_ema": s},
    "two models": lambda s: {"state_dict": renamed(s, "net.") | renamed(s, "ema.")},
    "an optimizer": lambda s: {"optimizer": {"state": {0: {"step": torch.ones(1)}}}, "net": {"weights": s}},
    "a key that is a number": lambda s: dict([*s.items(), (3, torch.zeros(1))]),
    "an entry that is no tensor": lambda s: {**s, "epoch": 3},
    "one entry too many": lambda s: s | {"extra": torch.zeros(1)},
    "a teacher beside it": lambda s: s | FOREIGN,
    "extra entries in a block": lambda s: s | {f"blocks.{i}.gamma": torch.zeros(1) for i in range(12)},
    "many of LoRA": lambda s: renamed(s, "net.") | {
        f"net.blocks.{i}.attn.proj.lora_{x}.weight": torch.zeros(1) for i in range(12) for x in "AB"},
    "a part that is a part of ours": lambda s: s | {f"norm.{i}.weight": torch.zeros(1) for i in range(4)},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_advice_works_as_it_stands(
        wrap: Callable[[State], object], sat_t: State, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save_torch(tmp_path / "it's  weights_only=True {}.pt", wrap(sat_t))
    for _ in range(2):  # a model may be wrapped in two ways
        message = refusal(path)
        assert "incomplete" not in message
        exec(message[message.index("import torch"):], {})
        path = tmp_path / "weights.pt"
        try:
            loaded = load_checkpoint(str(path), SAT_T)
            break
        except CheckpointError:
            continue
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


def test_advice_that_would_be_too_long_to_be_typed_in_is_none(sat_t: State, tmp_path: Path) -> None:
    for state in (renamed(sat_t, "x" * 900 + "."), {"x" * 900: sat_t},
                  sat_t | {f"norm.{i}.{'norm.' * i}weight": torch.zeros(1) for i in range(40)}):
        message = refusal(save_torch(tmp_path / "w.pt", state))
        assert "import torch" not in message
        assert message.endswith("save the weights alone: torch.save(model.state_dict(), 'weights.pt')")


def test_advice_on_safetensors_works_as_it_stands(
        sat_t: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = refusal(save_safetensors(tmp_path / "w.safetensors", renamed(sat_t, "module.") | FOREIGN))
    exec(message[message.index("from safetensors"):], {})
    loaded = load_checkpoint("weights.safetensors", SAT_T)
    np.testing.assert_array_equal(loaded.state[WEIGHT], sat_t[WEIGHT].numpy())


def test_advice_says_where_else_weights_are_and_what_they_are_of(sat_t: State, tmp_path: Path) -> None:
    content = {"state_dict": renamed(sat_t, "net."), "ema": sat_t}
    message = refusal(save_torch(tmp_path / "w.pt", content))
    assert ("The weights are in ['state_dict'], their names start with 'net.' (others are in ['ema'])"
            ) in message
    message = refusal(save_torch(tmp_path / "w.pt", renamed(sat_t, "a.") | renamed(sat_t, "b.")))
    assert "Its names start with 'a.' or 'b.'" in message
    message = refusal(save_torch(tmp_path / "w.pt", renamed(hollow(find_model("sat-s")[2]), "module.")))
    assert "Its names start with 'module.'. This looks like sat-s" in message


@pytest.mark.parametrize("protocol", [0, 1, 4, 5])
def test_a_protocol_that_torch_does_not_read_safely_is_named(
        protocol: int, sat_t: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights_only=True  {}.pt"
    torch.save(sat_t, path, pickle_protocol=protocol)
    message = refusal(path)
    assert f"is written in pickle protocol {protocol if protocol > 1 else '0 or 1'}; torch reads" in message
    if protocol > 1:  # no torch reads the others
        assert "where you trust who made the file" in message
        exec(message[message.index("import torch"):], {})
        assert load_checkpoint("weights.pt", SAT_T).classes == 527


def test_protocol_3_loads_without_a_word(sat_t: State, tmp_path: Path) -> None:
    torch.save(sat_t, tmp_path / "w.pt", pickle_protocol=3)
    assert load_checkpoint(str(tmp_path / "w.pt"), SAT_T).classes == 527


@pytest.mark.parametrize("key", keys.FRONT_END)
def test_another_front_end_is_refused_and_rounding_is_replaced(
        key: str, sat_t: State, tmp_path: Path) -> None:
    near = save_torch(tmp_path / "near.pt", sat_t | {key: sat_t[key] + 5e-4})
    np.testing.assert_array_equal(load_checkpoint(str(near), SAT_T).state[key], sat_t[key].numpy())
    far = save_torch(tmp_path / "far.pt", sat_t | {key: sat_t[key] + 2e-3})
    assert f"{key} differs by 0.002 from the front end" in refusal(far)


# Damaged files.

@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "is an HTML page"),
    (b"PK", "neither a PyTorch nor a safetensors file"),
    (b"hello, world", "neither a PyTorch nor a safetensors file"),
])
def test_what_is_no_checkpoint_is_called_what_it_is(
        content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize("what", ["publish", "nowhere.pt"])
def test_a_missing_file_names_the_words_that_need_none(what: str) -> None:
    message = refusal(Path(what))
    assert "no such file" in message
    assert "demo, random" in message


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="a device is a path on POSIX systems")
def test_a_device_is_no_file() -> None:
    assert "is a pipe or device" in refusal(Path(os.devnull))


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError("Permission denied")])
def test_a_file_that_may_not_be_read_says_why(
        error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise error
    (tmp_path / "w.pt").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", closed)
    assert "cannot be read (Permission denied)" in refusal(tmp_path / "w.pt")


def zipped(method: int, bits: int, at: int = 0, header: int = 0) -> bytes:
    """A zip of one part that a method compressed, bits flipped in a byte of it, or of both its headers."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x/data.pkl", bytes(range(200)))
    content = bytearray(file.getvalue())
    for place in (header, content.index(b"PK\1\2") + 2 + header) if header else (
            content.index(b"data.pkl") + len("data.pkl") + at,):
        content[place] ^= bits
    return bytes(content)


@pytest.mark.parametrize("content", [
    zipped(zipfile.ZIP_DEFLATED, 0xFF, at=1), zipped(zipfile.ZIP_BZIP2, 0xFF, at=1),
    zipped(zipfile.ZIP_LZMA, 0xFF, at=9), zipped(zipfile.ZIP_DEFLATED, 0x60, header=8),
    zipped(zipfile.ZIP_DEFLATED, 1, header=6)],
    ids=["deflate", "bzip2", "lzma", "an unknown method", "encrypted"])
def test_a_zip_that_cannot_be_unpacked_is_called_damaged(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    assert "is damaged, or something else than torch.save wrote it" in refusal(tmp_path / "w.pt")


def test_a_zip_that_torch_did_not_write_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("a/readme.txt", "hello")
    assert "something else than torch.save wrote it" in refusal(tmp_path / "w.pt")


@both_formats
@pytest.mark.parametrize("share", [1e-7, 1e-6, 1e-5, 0.001, 0.5, 0.999, 1 - 1e-7])
def test_a_truncated_file_is_refused(
        save: Save, share: float, sat_t: State, tmp_path: Path) -> None:
    path = save(tmp_path / "w", sat_t)
    os.truncate(path, int(share * path.stat().st_size))
    assert "download it again" in refusal(path)


@settings(max_examples=150)
@given(st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02}", b"\x28" + bytes(7) + b"{"]),
       st.binary(max_size=80))
def test_no_bytes_make_anything_but_a_checkpoint_error(
        tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.pt"
    path.write_bytes(magic + rest)
    assert refusal(path).startswith(f"{path}: ")


# Hostile and unusual content.

class Hostile:
    """Unpickling it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("protocol", [None, 2, 4])
def test_nothing_in_a_pickle_is_executed(
        protocol: int | None, sat_t: State, tmp_path: Path) -> None:
    path, trace = tmp_path / "w.pt", tmp_path / "executed"
    content = {"model": sat_t, "config": Hostile(trace)}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"config": Hostile(trace)}, protocol=protocol))
    message = refusal(path)
    assert not trace.exists()
    if protocol != 4:  # torch.load does not read that far in protocol 4
        assert "io.open" in message
        assert "nothing in it was executed" in message
    pickle.loads(pickle.dumps(Hostile(trace))).close()  # the trap works
    assert trace.exists()


class Growing:
    """Unpickling it makes gigabytes of zeros, or doubles a text again and again."""

    def __init__(self, *how: object) -> None:
        self.how = how

    def __reduce__(self) -> tuple[object, ...]:
        return self.how[0], self.how[1:]


def repacked(path: Path, compression: int, **content: bytes) -> Path:
    """A file of torch.save with the content of some parts replaced, compressed or not."""
    target = path.with_name("repacked.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, content.get(name.split("/")[-1].replace(".", "_"), old.read(name)))
    return target


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("how", "name"), [
    ((bytearray, 10**12), "bytearray"), ((codecs.encode, b"a", "hex"), "_codecs.encode")])
def test_what_would_grow_to_gigabytes_is_not_built(
        how: tuple[object, ...], name: str, legacy: bool, sat_t: State, tmp_path: Path) -> None:
    torch.save({"model": sat_t, "rest": Growing(*how)}, tmp_path / "w.pt",
               _use_new_zipfile_serialization=not legacy)
    message = refusal(tmp_path / "w.pt")
    assert f"{name}, expected tensors alone; nothing in it was executed" in message


def test_tuples_in_tuples_do_not_crash_the_process(tmp_path: Path) -> None:
    nested = b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."
    path = repacked(save_torch(tmp_path / "w.pt", {"a": 1}), zipfile.ZIP_STORED, data_pkl=nested)
    assert "far more objects than a state dict" in refusal(path)


def test_a_pickle_that_is_larger_than_any_list_of_names_is_not_read(tmp_path: Path) -> None:
    many = b"\x80\x02](" + b"N" * 2_000_000 + b"e."
    path = repacked(save_torch(tmp_path / "w.pt", {"a": 1}), zipfile.ZIP_STORED, data_pkl=many)
    assert "far more objects than a state dict" in refusal(path)


def test_a_zip_that_unpacks_to_more_than_it_holds_is_not_unpacked(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {"time_pos_embed": torch.zeros(10_000_000)})
    packed = repacked(path, zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 100_000
    assert "unpacks to more than it holds" in refusal(packed)


def test_a_tensor_that_claims_more_values_than_there_are_is_refused(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {WEIGHT: torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    number = (1000).to_bytes(2, "little")
    assert content.count(b"M" + number) == 2  # of the storage, of the shape
    claimed = content.replace(b"M" + number, b"J" + (2**31 - 1).to_bytes(4, "little"))
    assert "is damaged" in refusal(repacked(path, zipfile.ZIP_STORED, data_pkl=claimed))


def test_a_file_larger_than_any_of_its_kind_is_not_read(tmp_path: Path) -> None:
    with save_torch(tmp_path / "w.pt", {"a": torch.zeros(1)}).open("r+b") as file:
        file.truncate(3 * 10**9)  # of holes
    assert "has 3.0 GB, expected at most 2: save the weights alone" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize(("header", "words"), [
    (b'{"a":{"dtype":"F32","shape":[10000000000],"data_offsets":[0,40000000000]}}', "damaged safetensors"),
    (b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}', "damaged safetensors"),
    (b'{"a":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,4]}}', "damaged safetensors"),
    (b'{"a":' * 10_000, "damaged safetensors"), (None, "expected at most 1000000")])
def test_a_safetensors_header_that_lies_is_refused(header: bytes | None, words: str, tmp_path: Path) -> None:
    size = 50_000_000 if header is None else len(header)
    (tmp_path / "w").write_bytes(size.to_bytes(8, "little") + (header or b"{}") + bytes(4))
    assert words in refusal(tmp_path / "w")


def test_a_time_code_of_hours_is_not_read(tmp_path: Path) -> None:
    variant = find_model("vit-t")[10]
    state = hollow(variant) | {"time_pos_embed": torch.zeros(()).expand(1, 192, 1, 10**12)}
    with zipfile.ZipFile(save_torch(tmp_path / "w.pt", state)) as archive:
        assert sum(part.file_size for part in archive.infolist()) < 10_000_000
    assert "time_pos_embed is (1, 192, 1, 1000000000000), expected (1, 192, 1, 63)" in refusal(
        tmp_path / "w.pt", variant)


def test_a_whole_pickled_model_is_told_how_to_save_its_weights(tmp_path: Path) -> None:
    message = refusal(save_torch(tmp_path / "w.pt", torch.nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), 'weights.pt')" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_called_one(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    assert "is a TorchScript program" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize(("content", "words"), [
    ([torch.zeros(2)], "holds one list"),
    ({}, "holds an empty dict"),
    ({"epoch": 3}, "its entry 'epoch' is no tensor but int"),
    ({3: torch.zeros(2)}, "its key 3 is no name but int"),
    ({"model": {"epoch": "three"}}, "its entry 'epoch' is no tensor but str"),
])
def test_what_is_no_state_dict_is_refused(content: object, words: str, tmp_path: Path) -> None:
    assert words in refusal(save_torch(tmp_path / "w.pt", content))


@both_formats
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.int8])
def test_other_precisions_are_named_and_refused(
        save: Save, dtype: torch.dtype, sat_t: State, tmp_path: Path) -> None:
    message = refusal(save(tmp_path / "w", sat_t | {WEIGHT: sat_t[WEIGHT].to(dtype)}))
    assert "expected float32 or float16" in message
    assert f"{WEIGHT} is {str(dtype).removeprefix('torch.')}" in message or "is I8" in message


@pytest.mark.parametrize("change", [Tensor.to_sparse, lambda t: t.to("meta")])
def test_a_tensor_without_values_is_refused(
        change: Callable[[Tensor], Tensor], sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", sat_t | {WEIGHT: change(sat_t[WEIGHT])})
    assert f"{WEIGHT} cannot be read" in refusal(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(
        bad: float, sat_t: State, tmp_path: Path) -> None:
    value = sat_t[WEIGHT].clone()
    value[5] = bad
    path = save_torch(tmp_path / "w.pt", sat_t | {WEIGHT: value})
    assert f"{WEIGHT} has NaN or infinite values" in refusal(path)


def test_a_negative_variance_is_refused(sat_t: State, tmp_path: Path) -> None:
    key = "init_bn.1.running_var"
    path = save_torch(tmp_path / "w.pt", sat_t | {key: sat_t[key] - 2})
    assert f"{key} has negative values" in refusal(path)


# The demo.

@pytest.fixture
def demo_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "demo.safetensors"
    monkeypatch.setitem(family.DEMOS, "sat-t-2s", path)
    return path


def test_the_demo_is_a_trained_sat_t_at_2_s(demo_path: Path, sat_t: State) -> None:
    save_safetensors(demo_path, {key: value.half() for key, value in sat_t.items()})
    loaded = load_checkpoint("demo", SAT_T)
    assert (loaded.source, loaded.name, loaded.dtype) == ("demo", "demo", "float16")
    assert loaded.source == "demo"
    assert checkpoint_file.find_by_sha256(loaded.sha256, family.DEMOS.values()) == demo_path


def test_the_demo_of_another_variant_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="--model sat-t --delay 2"):
        load_checkpoint("demo", find_model("sat-t")[1])


def test_a_package_without_the_demo_says_so(demo_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lacks the demo"):
        load_checkpoint("demo", SAT_T)


# Random weights.

def run(loaded: Checkpoint[Variant]) -> tuple[Transformer, Tensor]:
    """The model of a checkpoint, and four chunks of noise and tones [4, 1, samples]."""
    model = Transformer(loaded.variant, loaded.classes).eval()
    model.load_state_dict({key: torch.from_numpy(value) for key, value in loaded.state.items()})
    samples = loaded.variant.hop_samples
    time = torch.arange(samples) / 16_000
    generator = torch.Generator().manual_seed(0)
    chunks = [0.3 * torch.sin(2 * torch.pi * 440 * time), torch.zeros(samples),
              0.1 * torch.randn(samples, generator=generator),
              0.3 * torch.sin(2 * torch.pi * (200 + 700 * time) * time)]
    return model, torch.stack(chunks)[:, None]


def test_a_seed_makes_the_same_weights_again_and_another_seed_others() -> None:
    first, again = load_checkpoint("random", SAT_T), load_checkpoint("random", SAT_T)
    other = load_checkpoint("random", SAT_T, seed=1)
    assert first.sha256 == again.sha256 != other.sha256
    for key, value in first.state.items():
        np.testing.assert_array_equal(value, again.state[key])
    assert np.abs(first.state[WEIGHT] - other.state[WEIGHT]).max() > 0.01
    assert (first.source, first.name) == ("random", "random (seed 0)")
    assert other.name == "random (seed 1)"
    assert first.source == "random"
    assert first.labels == audioset_labels()


@pytest.mark.parametrize("variant", [
    find_model("sat-t")[2], find_model("sat-s")[1], find_model("vit-t")[1]],
    ids=lambda v: v.name)
@torch.inference_mode()
def test_scores_of_random_weights_are_moderate_and_tell_chunks_apart(variant: Variant) -> None:
    model, chunks = run(load_checkpoint("random", variant))
    cache, scores = model.silence_cache(), []
    for chunk in chunks:
        found, cache = model(chunk, cache)
        scores.append(found[0])
    found = torch.stack(scores)
    assert found.min() > 0.005
    assert found.max() < 0.995
    assert 0.05 < found.std() < 0.2
    apart = (found[:, None] - found[None]).abs().mean(-1)
    assert apart[~torch.eye(4, dtype=torch.bool)].min() > 0.01


@torch.inference_mode()
def test_the_batch_norm_of_random_weights_fits_audio() -> None:
    model, chunks = run(load_checkpoint("random", SAT_T))
    quiet_room = model.front_end(0.03 * chunks[2])
    normed = model.init_bn(quiet_room[:, :, None])
    assert normed.mean().abs() < 1
    assert normed.abs().max() < 5


@torch.inference_mode()
def test_scores_of_random_weights_depend_on_the_cache() -> None:
    model, chunks = run(load_checkpoint("random", SAT_T))
    fresh, _ = model(chunks[0], model.silence_cache())
    _, cache = model(chunks[2], model.silence_cache())
    later, _ = model(chunks[0], cache)
    assert (fresh - later).abs().mean() > 0.02


# Where known weights lie.

def test_a_loaded_file_is_found_again_by_its_hash(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", sat_t)
    sha256 = load_checkpoint(str(path), SAT_T).sha256
    assert checkpoint_file.find_by_sha256(sha256) == path.resolve()
    with path.open("ab") as file:
        file.write(b"x")
    assert checkpoint_file.find_by_sha256(sha256) is None
    path.unlink()
    assert checkpoint_file.find_by_sha256(sha256) is None


def test_a_relative_path_is_remembered_as_an_absolute_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(b"weights")
    sha256 = sha256_of(Path("w.pt"))
    checkpoint_file.remember(sha256, Path("w.pt"))
    monkeypatch.chdir("/")
    assert checkpoint_file.find_by_sha256(sha256) == (tmp_path / "w.pt").resolve()


def test_a_note_of_where_weights_lie_is_written_whole_or_not_at_all(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    sha256 = sha256_of(tmp_path / "w.pt")
    checkpoint_file.remember(sha256, tmp_path / "w.pt")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "replace", full)
    checkpoint_file.remember(sha256, tmp_path / "other.pt")
    assert checkpoint_file.find_by_sha256(sha256) == (tmp_path / "w.pt").resolve()
    assert [path.name for path in (tmp_path / "cache" / "checkpoints").iterdir()] == [f"{sha256}.txt"]


def test_a_cache_folder_that_cannot_be_written_is_no_error(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SATEXPORT_CACHE", str(tmp_path / "file"))
    checkpoint_file.remember("0" * 64, tmp_path / "w.pt")
    assert checkpoint_file.find_by_sha256("0" * 64) is None


@pytest.mark.parametrize("word", ["", "../../note", "/etc/passwd", "0" * 63 + "\n"])
def test_a_word_that_is_no_hash_does_not_become_a_path(
        word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_file, "_remembered", lambda _: pytest.fail("a note was looked for"))
    assert checkpoint_file.find_by_sha256(word) is None


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SATEXPORT_CACHE", "/a")
    assert files.cache_folder() == Path("/a")
    monkeypatch.delenv("SATEXPORT_CACHE")
    for platform, name, value, folder in (
            ("linux", "XDG_CACHE_HOME", "/b", "/b/satexport"),
            ("linux", "HOME", "/home/me", "/home/me/.cache/satexport"),
            ("darwin", "HOME", "/Users/me", "/Users/me/Library/Caches/satexport"),
            ("win32", "LOCALAPPDATA", "/local", "/local/satexport/Cache")):
        with monkeypatch.context() as patch:
            patch.delenv("XDG_CACHE_HOME", raising=False)
            patch.setattr(sys, "platform", platform)
            patch.setenv(name, value)
            assert files.cache_folder() == Path(folder)
