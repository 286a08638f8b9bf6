"""The Docker images for devices, as far as they can be checked without building them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from satexport.facts import read_facts
from tests import ROOT

EXTRAS = {"cpu": {"cpu", "audio"}, "jetson": {"audio"}, "openvino": {"openvino", "audio"}}
TRAINING = {"torch", "onnx", "onnxsim", "scikit-learn", "satexport"}  # the last: an extra made of others
Step = tuple[str, str]  # an instruction and its arguments


def read(name: str) -> list[Step]:
    """The instructions of a Dockerfile, with continued lines joined, without comments."""
    lines = (ROOT / "docker" / f"{name}.Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if line and not line.startswith("#"))
    steps = (line.partition(" ") for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines())
    return [(word, rest) for word, _, rest in steps]


def of(steps: list[Step], instruction: str) -> list[str]:
    return [rest for word, rest in steps if word == instruction]


@pytest.fixture(params=sorted(EXTRAS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def steps(name: str) -> list[Step]:
    return read(name)


def test_every_dockerfile_has_a_dockerignore_and_a_command_in_the_readme() -> None:
    folder = ROOT / "docker"
    assert {file.stem for file in folder.glob("*.Dockerfile")} == set(EXTRAS)
    readme = (folder / "README.md").read_text("utf-8")
    for name in EXTRAS:
        assert (folder / f"{name}.Dockerfile.dockerignore").is_file()
        assert f"docker build -f docker/{name}.Dockerfile " in readme


def test_an_image_installs_only_the_extras_of_its_runtime(name: str,
                                                          steps: list[Step]) -> None:
    project, _ = read_facts(ROOT, str(ROOT / "pyproject.toml"), "project")
    commands = " ".join(of(steps, "RUN"))
    extras = {extra for group in re.findall(r"\.whl\)\[([\w,]+)\]", commands) for extra in group.split(",")}
    assert extras == EXTRAS[name] <= set(project["project"]["optional-dependencies"])
    required = [need for extra in extras for need in project["project"]["optional-dependencies"][extra]]
    packages = {re.split(r"[^\w-]", need)[0] for need in (*required, *project["project"]["dependencies"])}
    assert not packages & TRAINING
    assert not re.search(r"\b(torch|onnx|onnxsim)\b", commands)


def test_every_base_image_is_a_build_argument_with_a_version(steps: list[Step]) -> None:
    defaults = dict(argument.split("=") for argument in of(steps, "ARG"))
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+", image) for image in defaults.values())
    bases = [line.split()[0] for line in of(steps, "FROM")]
    assert len(bases) > 1
    assert {base.strip("${}") for base in bases} == set(defaults)


def test_an_image_does_not_run_as_root_and_its_cache_folder_is_writable_for_everyone(
        steps: list[Step]) -> None:
    last = steps[max(number for number, (word, _) in enumerate(steps) if word == "FROM"):]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", of(last, "USER")[-1])
    assert "SATEXPORT_CACHE=/cache" in of(last, "ENV")[0].split()
    assert re.search(r"install --directory --mode 1777 /cache\b", of(last, "RUN")[0])
    assert of(last, "ENTRYPOINT") == ['["satexport"]']


def test_the_files_that_are_copied_exist_and_reach_the_build(name: str, steps: list[Step]) -> None:
    copies = [copy.split() for copy in of(steps, "COPY") if not copy.startswith("--from")]
    sources = {source for *given, _ in copies for source in given}
    wheel = {"pyproject.toml", "README.md", "LICENSE", "satexport", "targets", "calibration"}
    assert wheel <= sources
    assert all((ROOT / source).exists() for source in sources)
    allowed = (ROOT / "docker" / f"{name}.Dockerfile.dockerignore").read_text("utf-8").split()
    assert (allowed[0], allowed[-1]) == ("*", "**/__pycache__")
    assert set(allowed[1:-1]) == {f"!{source}" for source in sources}


def test_every_package_of_an_image_is_pinned_by_the_constraints(steps: list[Step]) -> None:
    """Also the tools that build the wheel: pip installs nothing that is not listed."""
    commands = [command for run in of(steps, "RUN") for command in run.split(" && ") if "pip" in command]
    fetching = [command for command in commands if " install " in command and "apt-get" not in command]
    assert all(re.search(r"--constraint \S*constraints\.txt", command) for command in fetching)
    assert len(fetching) == 2
    assert all("--no-deps --no-build-isolation" in command for command in commands if " wheel " in command)


@pytest.mark.parametrize("name", ["cpu", "openvino"])
def test_telemetry_is_off_in_a_cpu_image(name: str) -> None:
    steps = read(name)
    assert "ORT_DISABLE_TELEMETRY=1" in of(steps, "ENV")[-1].split()
    removed = [run for run in of(steps, "RUN") if run.endswith("uninstall --yes openvino-telemetry")]
    assert len(removed) == (name == "openvino")


@pytest.mark.long
@pytest.mark.parametrize("name", ["cpu", "openvino"])
@pytest.mark.usefixtures("package_index")
def test_the_packages_of_a_cpu_image_resolve_to_the_pins(name: str, wheel: Path) -> None:
    """A dry run of the image's pip command, for its Python."""
    (run,) = (run for run in of(read(name), "RUN") if ".whl)[" in run)
    (command,) = (command for command in run.split(" && ") if ".whl)[" in command)
    command = command.replace("/wheels/satexport-*.whl", shlex.quote(str(wheel)))
    own = shlex.join([sys.executable, "-m", "pip"])
    command = command.replace("pip --python /opt/satexport/bin/python", own)
    (version,) = re.findall(r"python:([\d.]+)", of(read(name), "ARG")[0])
    done = subprocess.run(
        ["sh", "-c", f"{command} --dry-run --target none --only-binary :all: --python-version {version}"],
        cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = done.stdout.rpartition("Would install ")[2]
    pins = dict(re.findall(r"(?m)^([\w.-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text("utf-8")))
    found = dict(package.lower().replace("_", "-").rsplit("-", 1) for package in line.split())
    assert {"numpy", "onnxruntime" if name == "cpu" else "openvino", "soundfile", "soxr"} <= set(found)
    assert {package: pins[package] for package in found if package != "satexport"}.items() <= found.items()
