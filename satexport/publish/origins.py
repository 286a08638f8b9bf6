"""The sections of the model card about data, licence and origin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from satexport.audio.labels import audioset_labels
from satexport.bundle.contract import Contract
from satexport.models.families import find_paper_figures
from satexport.publish.layout import ATTRIBUTION
from satexport.publish.licence import Source
from satexport.publish.parts import Part
from satexport.report.blocks import describe_origin as describe_machine
from satexport.report.markdown import to_markdown
from satexport.report.table import Table
from satexport.terminal import printable

FILL_IN = "**Please fill in**"   # marks what the publisher must add


def describe_data(parts: Sequence[Part], source: Source) -> Iterator[str]:
    """Yield what the model was trained on, as far as that is known, and what int8 was calibrated on."""
    bundle = parts[0].bundle
    contract = bundle.contract
    if contract.has_random_weights:
        yield "None: the weights are random."
    elif source.training:
        yield _describe_training(source.training)
    elif source.published:
        published = source.published
        paper = next((figures for figures in find_paper_figures(contract)
                      if figures.map is not None and not figures.is_mixed), None)
        by_name = "" if published.sha256 or published.file != contract.checkpoint.name else (
            " (known by this name; no checksum was published)")
        page = f" {published.page}" if published.page else ""
        yield (f"The weights are those that their authors published as {_code(published.file)}{by_name}, "
               f"trained on AudioSet.{page}")
        if paper:
            yield (f"According to {paper.source}, the mAP is {paper.map:g} % on the evaluation set of "
                   "AudioSet. That is by the protocol of the paper, for the file that its authors scored; "
                   "it was not measured here.")
    else:
        yield f"{FILL_IN}: what the checkpoint was trained on. satexport does not know it."
    for part in parts:
        facts = part.bundle.calibration_set()
        if facts:
            told = f"The ranges of {part.precision} were found on {_describe_calibration(facts)}"
            yield to_markdown([told])


def _describe_training(facts: dict[str, Any]) -> str:
    real, synthetic = facts["real"], facts["synthetic"]
    classes = sum(len(scores["average_precision"]) for scores in facts["scores"].values())
    return (f"{real['clips']} real clips ({real['licence']}, folds {', '.join(real['folds'])}) and "
            f"{synthetic['clips']} synthetic ones, made by satexport. The model knows {classes} classes of "
            f"sounds; its other outputs were trained to stay silent. `{ATTRIBUTION}` says where the clips "
            "come from.")


def _describe_calibration(facts: dict[str, Any]) -> str:
    licence = f", licence: {facts['licence']}" if facts.get("licence") else ""
    clips = f", {facts['clips']} clips" if facts.get("clips") else ""
    name = facts.get("name", facts.get("source", "a calibration set"))
    return f"{name}{clips}{licence}."


def describe_licence(contract: Contract, labels: Sequence[str], source: Source) -> Iterator[str]:
    """Yield what is known about the licences of the weights and of the labels."""
    licence = source.licence
    if licence.is_known:
        yield f"The weights are under {licence.name}, {licence.why}."
    elif contract.has_random_weights:
        yield "The weights are random numbers, made by satexport from a seed."
    else:
        yield (f"{FILL_IN}: the licence of the checkpoint {_code(contract.checkpoint.name)} is not known to "
               "satexport, and the graphs contain its weights. State it in `license:` at the top of this "
               "file, or write the folder again with `--license`.")
    if has_audioset_labels(labels):
        yield ("The names of the classes are those of the AudioSet ontology (Google Inc., CC BY 4.0); see "
               f"`{ATTRIBUTION}`.")


def has_audioset_labels(labels: Sequence[str]) -> bool:
    """Whether labels are AudioSet's."""
    return set(labels) == set(audioset_labels())


def describe_origin(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the hashes of what the folder was made from, and the versions and machines of its reports."""
    contract = parts[0].bundle.contract
    rows = [["checkpoint", contract.checkpoint.name, contract.checkpoint.sha256]]
    rows += [[f"bundle in {part.precision}", f"target {part.bundle.target.name}, made by "
              f"{part.bundle.contract.exporter}", part.bundle.sha256] for part in parts]
    yield to_markdown([Table(title="SHA-256", head=["what", "name", "SHA-256"], rows=rows, texts=3)])
    machines = dict.fromkeys(
        describe_machine(report.origin) for part in parts for report in (part.parity, part.measure) if report)
    if machines:
        yield to_markdown(machines)


def _code(text: str) -> str:
    """A name from a file as code in Markdown, in which nothing is markup."""
    return "`{}`".format(printable(text).replace("`", "'"))
