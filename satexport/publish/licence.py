"""The licence of a checkpoint, as far as satexport knows it: nothing is guessed."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from satexport.bundle.contract import Contract
from satexport.errors import BundleError, UsageError
from satexport.hub import parse_hub_name
from satexport.models.families import find_contract_variant, find_family, published_files
from satexport.models.family import Published
from satexport.terminal import shown

OTHER = "other"  # what the Hub calls a licence that is not in its list
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
ON_THE_HUB = frozenset((  # docs/hub/repositories-licenses of the Hub; most are SPDX identifiers in lower case
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0",
    "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0",
    "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0",
    "cdla-permissive-2.0", "wtfpl", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1",
    "agpl-3.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c",
    "ms-pl", "mpl-2.0", "odc-by", "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa",
    "unlicense", "zlib", "pddl", "lgpl-lr", "deepfloyd-if-license", "llama2", "gemma"))


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence for the head of a model card."""

    identifier: str        # `license` of the Hub; OTHER: not in its list, or not known
    name: str              # its SPDX identifier, or what somebody called it; "": not known
    why: str               # who says so, the end of a sentence; "": not known

    @property
    def is_known(self) -> bool:
        return bool(self.name)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known about a checkpoint besides its contract."""

    licence: Licence
    published: Published | None     # its row among the public checkpoints; None: it is not one of them
    base_model: str                 # OWNER/REPO on the Hub that has the same weights; "": none is known
    training: dict[str, Any]        # of the demo: what it was trained on, the JSON beside it; {}: not known


def find_source(contract: Contract, given: str | None = None) -> Source:
    """Return what is known about the checkpoint of a contract. `given` is an SPDX identifier that the user
    states. Raises `UsageError` if it cannot be one."""
    if given is not None and not IDENTIFIER.fullmatch(given):
        raise UsageError(f"--license {shown(given)}: expected an SPDX identifier such as Apache-2.0, MIT or "
                         "CC-BY-4.0 (https://spdx.org/licenses).")
    published, training = _find_published(contract), _find_training(contract)
    if given is not None:
        licence = _named(given, "as the publisher of this folder states")
    elif contract.checkpoint.source == "demo":
        licence = _named("Apache-2.0", "the licence of satexport, of which this checkpoint is a part")
    elif published and published.licence:
        licence = _named(published.licence, "as the page of the public checkpoint of that name states")
    else:
        licence = Licence(identifier=OTHER, name="", why="")
    return Source(licence=licence, published=published, base_model=_find_base(contract, published),
                  training=training)


def _named(name: str, why: str) -> Licence:
    """The licence of an SPDX identifier. The Hub names those of GNU without "-only" and "-or-later"."""
    identifier = re.sub(r"-(only|or-later)$", "", name.lower())
    return Licence(identifier=identifier if identifier in ON_THE_HUB else OTHER, name=name, why=why)


def _find_published(contract: Contract) -> Published | None:
    """The public checkpoint that a bundle was made from, by its repository on the Hub, or by its file name
    and, if one was published, its SHA-256."""
    origin = contract.checkpoint
    with suppress(BundleError):  # a model that this version does not know
        for row in published_files(find_contract_variant(contract)):
            if origin.source == "hub" and row.hub and parse_hub_name(origin.name).repository == row.hub:
                return row
            if origin.source == "file" and row.file == origin.name and row.sha256 in (None, origin.sha256):
                return row
    return None


def _find_base(contract: Contract, published: Published | None) -> str:
    with suppress(UsageError):  # not a name on the Hub
        if contract.checkpoint.source == "hub":
            return parse_hub_name(contract.checkpoint.name).repository
    return published.hub if published else ""


def _find_training(contract: Contract) -> dict[str, Any]:
    """The description of the demo checkpoint, the JSON beside it."""
    if contract.checkpoint.source != "demo":
        return {}
    with suppress(BundleError, OSError, ValueError, KeyError):
        variant = find_contract_variant(contract)
        path = find_family(variant.family).DEMOS[variant.chunk_name].with_suffix(".json")
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return facts if facts["sha256"] == contract.checkpoint.sha256 else {}
    return {}
