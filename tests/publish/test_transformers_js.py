"""The folder is read back by transformers.js, which runs the golden chunks with the cache carried."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from satexport.backends.web.server import serve_folder
from satexport.bundle.contract import GraphOptions
from satexport.bundle.folder import Bundle, open_bundle
from satexport.parity.golden import GOLDEN_CHUNKS, run_golden
from satexport.pipeline.build import compile_bundle
from satexport.pipeline.plan import BuildOptions
from satexport.publish.card import EXACT_JS
from satexport.quantize.calibration_set import find_calibration
from satexport.tagging.tagger import load
from satexport.targets import find_target
from tests.commands.calls import call
from tests.publish.bundles import program_of
from tests.publish.transformers_js import Ran, run_program
from tests.tiny import FEW, SAT, export

pytestmark = pytest.mark.long
INT8 = "cpu-int8-avx2"  # whose products saturate on no CPU: transformers.js opens the graph without options


def built(source: Path, folder: Path, target: str, cache_dtype: str = "fp32") -> Path:
    options = BuildOptions(calibration=FEW, cache_dtype=cache_dtype)
    return compile_bundle(open_bundle(source), find_target(target), folder, options).path


def written(folder: Path, *bundles: Path) -> Path:
    result = call("hub", *bundles, "-o", folder / "hub")
    assert result.code == 0, result.err
    return folder / "hub"


def strongest(bundle: Bundle) -> list[str]:
    """The label that PyTorch ranks first in each golden chunk."""
    return [bundle.labels[scores.argmax()] for scores in bundle.golden()[1].scores]


def run(folder: Path, precision: str) -> Ran:
    program = program_of(folder, "js")
    assert program.count("{dtype: 'fp32'}") == 1
    return run_program(program.replace("{dtype: 'fp32'}", f"{{dtype: '{precision}'}}"), folder)


def test_transformers_js_gives_the_scores_of_the_demo_in_fp32_and_in_int8(demo: Path, tmp_path: Path) -> None:
    options = BuildOptions(calibration=find_calibration("synthetic"))
    int8 = compile_bundle(open_bundle(demo), find_target(INT8), tmp_path / "build", options).path
    assert (int8 / "model.onnx.data").is_file()
    folder, expected = written(tmp_path, demo, int8), strongest(open_bundle(demo))
    fp32, quantized = run(folder, "fp32"), run(folder, "int8")
    print(f"\ntransformers.js over {len(expected)} golden chunks: fp32 {fp32.largest:.1e}, "
          f"int8 {quantized.largest:.1e}")
    assert fp32.largest < 1e-5
    assert quantized.largest < open_bundle(int8).gates.max_score_difference
    assert fp32.strongest == expected
    assert quantized.strongest == expected


def test_transformers_js_takes_the_option_for_cpus_whose_sums_saturate(demo: Path, tmp_path: Path) -> None:
    bundle = built(demo, tmp_path / "build", "cpu-int8")
    folder = written(tmp_path, bundle)
    program = program_of(folder, "js").replace("{dtype: 'int8'}", f"{{dtype: 'int8', {EXACT_JS}}}")
    assert EXACT_JS in program
    assert EXACT_JS in (folder / "README.md").read_text("utf-8")
    exact = run_program(program, folder)
    with load(bundle) as tagger:
        expected = run_golden(tagger).differences[GOLDEN_CHUNKS].largest
    assert exact.largest == pytest.approx(expected, rel=0.01)


def test_transformers_js_takes_the_precision_that_the_config_names(tiny: Path, tmp_path: Path) -> None:
    folder = written(tmp_path, tiny)
    assert run_program(program_of(folder, "js").replace(", {dtype: 'fp32'}", ""), folder).largest < 1e-5


def test_transformers_js_loads_the_folder_from_a_hub_by_the_name_of_its_repository(
        tiny: Path, tmp_path: Path) -> None:
    folder = written(tmp_path, tiny)
    (tmp_path / "hub-site" / "OWNER" / "REPO" / "resolve").mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "hub-site" / "OWNER" / "REPO" / "resolve" / "main")
    with serve_folder(tmp_path / "hub-site") as address:
        settings = f"env.remoteHost = '{address}'; env.cacheDir = '{tmp_path / 'cache'}/';"
        program = program_of(folder, "js").replace("process.cwd(), {dtype: 'fp32'}", "'OWNER/REPO'")
        program = program.replace("Tensor} from", "Tensor, env} from")
        program = program.replace("const read", f"{settings}\nconst read")
        assert run_program(program, folder).largest < 1e-5
    assert list((tmp_path / "cache").rglob("model.onnx*"))


@pytest.mark.parametrize("name", ["tiny_lanes", "tiny_embedding", "random_vit", "random_window"])
def test_transformers_js_runs_every_kind_of_bundle(
        name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(name)
    found = run(written(tmp_path, bundle), "fp32")
    assert found.largest < 1e-5
    assert found.strongest == strongest(open_bundle(bundle))


@pytest.mark.parametrize("cache_dtype", ["fp16", "int8"])
def test_transformers_js_carries_a_cache_of_another_type(
        cache_dtype: str, tiny: Path, tmp_path: Path) -> None:
    bundle = built(tiny, tmp_path / "build", "cpu-fp32", cache_dtype)
    assert run(written(tmp_path, bundle), "fp32").largest < 0.05


def test_transformers_js_runs_a_graph_that_caches_hidden_states(tmp_path: Path) -> None:
    bundle = export(tmp_path / "build", SAT, 2, "random", GraphOptions(cache="hidden"), use_onnxsim=False)
    assert run(written(tmp_path, bundle), "fp32").largest < 1e-5
