"""Hostile and unusual content: nothing in a file is executed, and nothing allocates gigabytes."""

from __future__ import annotations

import codecs
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from satexport.models.sat.variants import find_model
from tests.models.checkpoints import (
    WEIGHT,
    Hostile,
    Save,
    State,
    both_formats,
    hollow,
    refusal,
    save_torch,
)

pytestmark = pytest.mark.usefixtures("own_cache_folder", "one_thread")


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
    """Unpickling it allocates gigabytes of zeros or doubles a text repeatedly."""

    def __init__(self, *how: object) -> None:
        self.how = how

    def __reduce__(self) -> tuple[object, ...]:
        return self.how[0], self.how[1:]


def repacked(path: Path, compression: int, **content: bytes) -> Path:
    """Write a file of torch.save again, with the content of some parts replaced, compressed or not."""
    target = path.with_name("repacked.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, content.get(name.split("/")[-1].replace(".", "_"), old.read(name)))
    return target


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("how", "name"), [
    ((bytearray, 10**12), "bytearray"), ((codecs.encode, b"a", "hex"), "_codecs.encode")])
def test_a_pickle_that_would_allocate_gigabytes_is_refused(
        how: tuple[object, ...], name: str, legacy: bool, sat_t: State, tmp_path: Path) -> None:
    torch.save({"model": sat_t, "rest": Growing(*how)}, tmp_path / "w.pt",
               _use_new_zipfile_serialization=not legacy)
    message = refusal(tmp_path / "w.pt")
    assert f"{name}, expected only tensors; nothing in it was executed" in message


def test_nested_tuples_do_not_crash_the_process(tmp_path: Path) -> None:
    nested = b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."
    path = repacked(save_torch(tmp_path / "w.pt", {"a": 1}), zipfile.ZIP_STORED, data_pkl=nested)
    assert "far more objects than a state dict" in refusal(path)


def test_a_pickle_larger_than_any_list_of_names_is_refused(tmp_path: Path) -> None:
    many = b"\x80\x02](" + b"N" * 2_000_000 + b"e."
    path = repacked(save_torch(tmp_path / "w.pt", {"a": 1}), zipfile.ZIP_STORED, data_pkl=many)
    assert "far more objects than a state dict" in refusal(path)


def test_a_zip_that_unpacks_to_more_bytes_than_it_has_is_refused(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {"time_pos_embed": torch.zeros(10_000_000)})
    packed = repacked(path, zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 100_000
    assert "unpacks to more bytes than it has" in refusal(packed)


def test_a_tensor_that_claims_more_values_than_the_file_has_is_refused(sat_t: State, tmp_path: Path) -> None:
    path = save_torch(tmp_path / "w.pt", {WEIGHT: torch.zeros(1000)})
    with zipfile.ZipFile(path) as archive:
        content = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    number = (1000).to_bytes(2, "little")
    assert content.count(b"M" + number) == 2  # of the storage, of the shape
    claimed = content.replace(b"M" + number, b"J" + (2**31 - 1).to_bytes(4, "little"))
    assert "is damaged" in refusal(repacked(path, zipfile.ZIP_STORED, data_pkl=claimed))


def test_a_file_larger_than_any_checkpoint_is_refused(tmp_path: Path) -> None:
    with save_torch(tmp_path / "w.pt", {"a": torch.zeros(1)}).open("r+b") as file:
        file.truncate(3 * 10**9)  # of holes
    assert "has 3.0 GB, expected at most 2: save only the weights" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize(("header", "words"), [
    (b'{"a":{"dtype":"F32","shape":[10000000000],"data_offsets":[0,40000000000]}}', "damaged safetensors"),
    (b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}', "damaged safetensors"),
    (b'{"a":{"dtype":"F32","shape":[99999999999,99999999999],"data_offsets":[0,4]}}', "damaged safetensors"),
    (b'{"a":' * 10_000, "damaged safetensors"), (None, "expected at most 1000000")])
def test_a_false_safetensors_header_is_refused(header: bytes | None, words: str, tmp_path: Path) -> None:
    size = 50_000_000 if header is None else len(header)
    (tmp_path / "w").write_bytes(size.to_bytes(8, "little") + (header or b"{}") + bytes(4))
    assert words in refusal(tmp_path / "w")


def test_a_time_code_of_hours_is_refused(tmp_path: Path) -> None:
    variant = find_model("vit-t")[10]
    state = hollow(variant) | {"time_pos_embed": torch.zeros(()).expand(1, 192, 1, 10**12)}
    with zipfile.ZipFile(save_torch(tmp_path / "w.pt", state)) as archive:
        assert sum(part.file_size for part in archive.infolist()) < 10_000_000
    assert "time_pos_embed is (1, 192, 1, 1000000000000), expected (1, 192, 1, 63)" in refusal(
        tmp_path / "w.pt", variant)


def test_the_error_for_a_pickled_model_says_how_to_save_its_weights(tmp_path: Path) -> None:
    message = refusal(save_torch(tmp_path / "w.pt", torch.nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in message
    assert "torch.save(model.state_dict(), 'weights.pt')" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_error_for_a_torchscript_program_says_so(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")
    assert "is a TorchScript program" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize(("content", "words"), [
    ([torch.zeros(2)], "holds one list"),
    ({}, "holds an empty dict"),
    ({"epoch": 3}, "its entry 'epoch' is not a tensor but int"),
    ({3: torch.zeros(2)}, "its key 3 is not a name but int"),
    ({"model": {"epoch": "three"}}, "its entry 'epoch' is not a tensor but str"),
])
def test_content_that_is_not_a_state_dict_is_refused(content: object, words: str, tmp_path: Path) -> None:
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
