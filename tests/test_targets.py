"""Targets: which TOML files are accepted, and the messages for those that are refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from satexport.backends.backend import BACKENDS
from satexport.bundle.folder import open_bundle
from satexport.bundle.target import MAX_STEP_MS, Budgets, Gates, Quantization, Target
from satexport.errors import DataError, UsageError
from satexport.targets import FOLDER, find_target, shipped
from tests.own_targets import MINE, fill, write


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_target_has_the_name_of_its_file_and_a_backend(path: Path) -> None:
    target = find_target(path.stem)
    assert target.name == path.stem
    assert target.backend in BACKENDS
    assert target.gates.max_score_difference > 0
    assert 0.9 < target.gates.map_kept <= 1


def test_a_family_may_have_a_limit_of_its_own(tmp_path: Path, tiny: Path) -> None:
    target = find_target(write(tmp_path, MINE.replace(
        "map_kept", "max_score_difference_of = { mine = 0.5 }\nmin_embedding_cosine = 0.9\n"
                    "min_embedding_cosine_of = { mine = 0.8, other = 0.7 }\nmap_kept")))
    for family, difference, cosine in (("mine", 0.5, 0.8), ("other", 1e-3, 0.7), ("another", 1e-3, 0.9)):
        bundle = open_bundle(tiny)
        bundle = replace(bundle, target=target, contract=replace(bundle.contract, family=family))
        assert bundle.gates == Gates(max_score_difference=difference, map_kept=1, min_embedding_cosine=cosine)


def test_a_limit_of_embeddings_is_a_share(tmp_path: Path) -> None:
    for line in ("max_embedding_difference = 0", "max_embedding_difference_worst = 2",
                 "min_embedding_cosine = 1.5", "min_embedding_cosine_of = { mine = 0 }"):
        with pytest.raises(DataError, match="more than 0, at most 1"):
            find_target(write(tmp_path, MINE.replace("map_kept", f"{line}\nmap_kept")))


def test_the_target_of_the_export_has_the_designed_gate() -> None:
    assert find_target("onnx").gates.max_score_difference == 1e-4


def test_a_users_target_is_read_by_path(tmp_path: Path) -> None:
    target = find_target(write(tmp_path, MINE))
    assert target == Target(
        name="my-board", backend="onnxruntime", precision="fp32", threads=2,
        gates=Gates(max_score_difference=1e-3, map_kept=1),
        description="the one on my desk", budgets=Budgets(step_ms=20, resident_mb=150.5, transient_mb=10))


def test_budgets_and_description_are_optional(tmp_path: Path) -> None:
    text = MINE.split("[budgets]", maxsplit=1)[0].replace('description = "the one on my desk"', "")
    target = find_target(write(tmp_path, text))
    assert (target.budgets, target.description) == (Budgets(), "")


def test_a_target_can_gate_metrics_of_the_labelled_set(tmp_path: Path) -> None:
    text = MINE.replace("map_kept = 1", "map_kept = 1\nmetrics.auc = 0.9\nmetrics.d_prime = 2.5")
    target = find_target(write(tmp_path, text))
    assert target.gates.for_family("sat").metrics == {"auc": 0.9, "d_prime": 2.5}
    assert Target.from_dict(target.to_dict(), tmp_path) == target


def test_one_budget_sets_no_other(tmp_path: Path) -> None:
    text = MINE.split("resident_mb", maxsplit=1)[0]
    assert find_target(write(tmp_path, text)).budgets == Budgets(step_ms=20)


def test_threads_may_be_left_to_the_runtime(tmp_path: Path) -> None:
    assert find_target(write(tmp_path, MINE.replace("threads = 2", ""))).threads is None


def test_the_machine_of_a_target_is_a_name_as_uname_prints_it(tmp_path: Path) -> None:
    assert find_target(write(tmp_path, MINE)).machine == ""
    assert find_target(write(tmp_path, MINE.replace("threads = 2", 'machine = "x86_64"'))).machine == "x86_64"
    with pytest.raises(DataError, match="machine is 'ARM Linux', expected the name that `uname -m` prints"):
        find_target(write(tmp_path, MINE.replace("threads = 2", 'machine = "ARM Linux"')))


@pytest.mark.parametrize("name", ["arm-linux", "raspberry-pi-4", "raspberry-pi-5"])
def test_a_target_for_arm_has_the_int8_of_cpu_int8_and_its_budgets_are_called_estimates(name: str) -> None:
    target, cpu = find_target(name), find_target("cpu-int8")
    assert (target.backend, target.quantization, target.gates) == (cpu.backend, cpu.quantization, cpu.gates)
    assert (target.machine, target.threads) == ("aarch64", 1)
    assert target.budgets.step_ms
    assert target.budgets.resident_mb
    assert "budgets are estimates, not run on a board" in target.description


@pytest.mark.parametrize("name", ["cpu-int8", "openvino-int8"])
def test_a_target_for_cpus_without_dot_products_differs_only_in_the_bits_of_weights(name: str) -> None:
    target, usual = find_target(f"{name}-avx2"), find_target(name)
    assert usual.quantization
    assert target.quantization == replace(usual.quantization, weight_bits=7)
    assert (target.backend, target.gates) == (usual.backend, usual.gates)
    assert target.options == ({"floats": "fp32"} if usual.options else {})  # no such CPU has bf16


def test_an_unknown_name_is_a_usage_error_that_lists_the_shipped_targets() -> None:
    with pytest.raises(UsageError, match=r"no target 'jetson-9'; expected one of .*onnx"):
        find_target("jetson-9")


def test_a_path_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"gone\.toml: no such file; expected a TOML of a target"):
        find_target("gone.toml")


@pytest.mark.parametrize(("now", "then", "words"), [
    ("threads = 2", "treads = 2", "unknown key 'treads'; the keys are .*threads"),
    ("map_kept = 1", "map_kept = 1\nmAP = 1", "unknown key 'mAP'"),
    ("map_kept = 1", "map_kept = 1\nmetrics.mAP = 0.9", "'mAP' is 0.9, expected no such key; the metrics"),
    ("map_kept = 1", "map_kept = 1\nmetrics.auc = 1.1", "auc is 1.1, expected more than 0, at most 1"),
    ("map_kept = 1", "map_kept = 1\nmetrics.ece = 0", "ece is 0, expected more than 0, at most 1"),
    ("map_kept = 1", "map_kept = 1\nmetrics.d_prime = nan", "d_prime is nan, expected more than 0"),
    ("map_kept = 1", "map_kept = 1\nmetrics = 0.9", "metrics is 0.9, expected a table of numbers"),
    ('precision = "fp32"', "", "the key 'precision' is missing"),
    ("map_kept = 1", "", "the key 'map_kept' is missing"),
    ("threads = 2", 'threads = "2"', "threads is '2', expected a whole number"),
    ("threads = 2", "threads = true", "threads is True, expected a whole number"),
    ("threads = 2", "threads = 0.5", "threads is 0.5, expected a whole number"),
    ('precision = "fp32"', "precision = 32", "precision is 32, expected a string"),
    ("max_score_difference = 1e-3", 'max_score_difference = "small"', "is 'small', expected a number"),
    ("[gates]", "[[gates]]", r"gates is .*expected a table"),
    ("[budgets]", "[[budgets]]", r"budgets is .*expected a table \[budgets\]"),
    ("step_ms = 20", "stepms = 20", "unknown key 'stepms'; the keys are step_ms, resident_mb, transient_mb"),
    ("step_ms = 20", 'step_ms = "20"', "step_ms is '20', expected a number"),
    ("step_ms = 20", "step_ms = true", "step_ms is True, expected a number"),
    ('description = "the one on my desk"', "description = 1", "description is 1, expected a string"),
    ("[gates]", "[gates", "is not a readable TOML"),
    ('name = "my-board"', 'name = "../../home"', r"name is '\.\./\.\./home'"),
    ('name = "my-board"', 'name = ".."', r"name is '\.\.'"),
    ('name = "my-board"', 'name = ""', "name is ''"),
])
def test_a_wrong_key_or_value_is_named_with_its_file(now: str, then: str, words: str,
                                                     tmp_path: Path) -> None:
    assert now in MINE
    with pytest.raises(DataError, match=f"mine.toml.*{words}"):
        find_target(write(tmp_path, MINE.replace(now, then)))


def test_a_target_may_extend_another_one(tmp_path: Path) -> None:
    target = find_target(write(tmp_path, '''extends = "jetson-orin-nano"
name = "mine"
[tensorrt]
workspace_mb = 500
[budgets]
step_ms = 20
'''))
    nano = find_target("jetson-orin-nano")
    assert target == replace(nano, name="mine", options={**nano.options, "workspace_mb": 500},
                             budgets=replace(nano.budgets, step_ms=20))


@pytest.mark.parametrize(("name", "words"), [
    ("jetson-9", "mine.toml: extends is 'jetson-9', expected one of arm-linux, .*, web-int8, jetson."),
    ("../cpu-fp32", "mine.toml: extends is '../cpu-fp32', expected one of"),
    ("a", "mine.toml: a chain of extends has more than 4 targets; expected fewer, and no circle.")])
def test_extending_a_missing_or_circular_target_is_refused(
        name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "a":
        (tmp_path / "a.toml").write_text('extends = "b"')
        (tmp_path / "b.toml").write_text('extends = "a"')
        monkeypatch.setattr("satexport.targets.FOLDER", tmp_path)
    with pytest.raises(DataError, match=words):
        find_target(write(tmp_path, f'extends = "{name}"\n{MINE}'))


def test_a_common_part_of_targets_is_not_a_target() -> None:
    assert "jetson" not in [target.name for target in shipped()]
    with pytest.raises(UsageError, match="no target 'jetson'"):
        find_target("jetson")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x00" * 9], ids=["not utf-8", "zeros"])
def test_a_binary_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(content)
    with pytest.raises(DataError, match="is not a readable TOML"):
        find_target(str(tmp_path / "binary.toml"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(DataError, match="is not a readable TOML"):
        find_target(str(tmp_path / "folder.toml"))


@pytest.mark.parametrize("text", [MINE, MINE.replace("threads = 2", "").replace("step_ms = 20", "")],
                         ids=["every key", "some keys"])
def test_a_target_survives_a_round_trip_through_a_bundle(text: str, tmp_path: Path) -> None:
    target = find_target(write(tmp_path, text))
    assert Target.from_dict(json.loads(json.dumps(target.to_dict())), Path("bundle.json")) == target


def test_a_required_key_must_not_be_null_in_a_bundle() -> None:
    fields = find_target("onnx").to_dict() | {"precision": None}
    with pytest.raises(DataError, match=r"bundle\.json: precision is None, expected a string"):
        Target.from_dict(fields, Path("bundle.json"))


@pytest.mark.parametrize(("now", "then", "words"), [
    ("threads = 2", "threads = 0", "threads is 0, expected 1 to 256; omit the key to"),
    ("threads = 2", "threads = -3", "threads is -3, expected 1 to 256"),
    ("threads = 2", "threads = 257", "threads is 257, expected 1 to 256"),
    ('"onnxruntime"', '"onnxruntim"', f"backend is 'onnxruntim', expected {' or '.join(BACKENDS)}."),
    ("on my desk", r"on\nmy desk", "expected one line of printable characters"),
    ("score_difference = 1e-3", "score_difference = inf", "max_score_difference is inf, expected more than"),
    ("map_kept = 1", "max_score_difference_of = { mine = 2 }\nmap_kept = 1",
     "max_score_difference_of is 2, expected more than 0, less than 1"),
    ("map_kept = 1", "max_score_difference_of = { mine = 'x' }\nmap_kept = 1", "expected a table of numbers"),
    ("map_kept = 1", "map_kept = -1", "map_kept is -1, expected more than 0"),
    ("map_kept = 1", "map_kept = 1.5", "map_kept is 1.5, expected more than 0, at most 1."),
    ("step_ms = 20", "step_ms = 0", "step_ms is 0, expected more than 0"),
    ("step_ms = 20", "step_ms = nan", "step_ms is nan, expected more than 0"),
    ("step_ms = 20", "step_ms = 60001", "step_ms is 60001, expected more than 0, at most 60000."),
    ("resident_mb = 150.5", "resident_mb = 0.0", "resident_mb is 0.0, expected more than 0 and finite"),
    ("resident_mb = 150.5", "resident_mb = inf", "resident_mb is inf, expected more than 0 and finite"),
    ("transient_mb = 1e1", "transient_mb = -1", "transient_mb is -1, expected more than 0 and finite"),
    ("transient_mb = 1e1", f"transient_mb = 1{'0' * 400}", "expected more than 0 and finite")],
    ids=lambda text: text[:30])
def test_invalid_values_are_refused(now: str, then: str, words: str, tmp_path: Path) -> None:
    assert MINE.count(now) == 1
    with pytest.raises(DataError, match=re.escape(words)):
        find_target(write(tmp_path, MINE.replace(now, then)))


@pytest.mark.parametrize("number", [1, 256])
def test_the_range_of_threads_is_inclusive(number: int, tmp_path: Path) -> None:
    assert find_target(write(tmp_path, MINE.replace("threads = 2", f"threads = {number}"))).threads == number


def test_a_step_may_take_a_minute_and_no_longer(tmp_path: Path) -> None:
    text = MINE.replace("step_ms = 20", f"step_ms = {MAX_STEP_MS}")
    assert find_target(write(tmp_path, text)).budgets.step_ms == MAX_STEP_MS == 60_000


@pytest.mark.parametrize(("now", "then", "words"), [
    ('method = "static"', 'method = "fast"', "method is 'fast', expected static or dynamic"),
    ('scheme = "qdq"', 'scheme = 1', "scheme is 1, expected a string"),
    ('scheme = "qdq"', 'weight_bits = 4', "weight_bits is 4, expected 7 or 8"),
    ('scheme = "qdq"', 'percentile = 10', "percentile is 10, expected more than 50"),
    ('scheme = "qdq"', 'leave_out = "00.q"', "leave_out is '00.q', expected a list of strings"),
    ('scheme = "qdq"', 'per_channel = 1', "per_channel is 1, expected true or false"),
    ('scheme = "qdq"', 'operators = []', "operators is [], expected one or more of linear, conv"),
    ('scheme = "qdq"', 'operators = ["softmax"]', "operators is ['softmax'], expected one or more of"),
    ('scheme = "qdq"', 'products = []', "unknown key 'products'"),
    ('precision = "int8"', 'precision = "fp32"', "precision is 'fp32', expected int8 with a table")])
def test_a_wrong_key_or_value_of_quantization_is_named(
        tmp_path: Path, now: str, then: str, words: str) -> None:
    text = MINE.replace('"fp32"', '"int8"') + '[quantization]\nmethod = "static"\nscheme = "qdq"\n'
    assert find_target(write(tmp_path, text)).quantization == Quantization(scheme="qdq")
    with pytest.raises(DataError, match=re.escape(words)):
        find_target(write(tmp_path, text.replace(now, then)))


def test_shipped_lists_all_targets_in_the_folder_by_name(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(p.stem for p in FOLDER.glob("*.toml")) == [target.name for target in shipped()]
    fill(tmp_path, monkeypatch)
    assert [target.name for target in shipped()] == ["any", "any-2", "board"]  # any-2.toml sorts first
