"""Names on the Hugging Face Hub, and which file of a repository has the weights."""

from __future__ import annotations

import pytest

from satexport.errors import CheckpointError, UsageError
from satexport.hub import HubName, HubRepository, is_hub_name, parse_hub_name

COMMIT = "0" * 40


@pytest.mark.parametrize(("text", "repository", "file", "revision"), [
    ("hub:mispeech/ced-tiny", "mispeech/ced-tiny", None, None),
    ("hub:a/b@main", "a/b", None, "main"),
    ("hub:a/b@refs/pr/4", "a/b", None, "refs/pr/4"),
    ("hub:A_1/b.c-d/x.pt", "A_1/b.c-d", "x.pt", None),
    ("hub:a/b/deep/er/model.safetensors@v1.0", "a/b", "deep/er/model.safetensors", "v1.0"),
    (f"hub:a/b/odd@name.pt@{COMMIT}", "a/b", "odd@name.pt", COMMIT),
    ("hub:a/b/..x/y..pt", "a/b", "..x/y..pt", None)])
def test_a_name_has_a_repository_a_file_and_a_revision(
        text: str, repository: str, file: str | None, revision: str | None) -> None:
    assert is_hub_name(text)
    assert parse_hub_name(text) == HubName(repository, file, revision)


@pytest.mark.parametrize("text", [
    "hub:", "hub:a", "hub:a/", "hub:/a", "hub:a/b/", "hub:a/b@", "hub:a//b", "hub:a/b@main@", "hub:a/b@ main",
    "hub:a--b/c", "hub:a/b..c", "hub:a/b.git", "hub:-a/b", "hub:a/b.", "hub:a b/c", "hub:\u00e4/b",
    "hub:a/b\n", "hub:a/../c.pt", "hub:a/b/../c.pt", "hub:a/b/./c.pt", "hub:a/b//c.pt", "hub:a/b/..",
    "hub:a/b/c\\d.pt", "hub:a/b/c\x1b.pt", "hub:a/b@../../x", "hub:a/b@/x", "hub:a/b@x/", "hub:a/b@-x",
    "hub:a/b@x\n", "hub:https://huggingface.co/a/b", f"hub:{'a' * 50}/{'b' * 50}"])
def test_what_can_be_no_name_is_wrong_use(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected hub:OWNER/REPO\[/FILE\]\[@REVISION\]"):
        parse_hub_name(text)


def repository(*files: str, is_cached_only: bool = False) -> HubRepository:
    return HubRepository(name="a/b", revision=None, commit=COMMIT, files=dict.fromkeys(files),
                         is_cached_only=is_cached_only)


@pytest.mark.parametrize(("files", "chosen"), [
    (["x.pt", "pytorch_model.bin", "model.safetensors"], "model.safetensors"),
    (["x.pt", "pytorch_model.bin", "sub/model.safetensors"], "pytorch_model.bin"),
    (["README.md", "x.pth", "training.bin"], "x.pth"),
    (["sub/model.safetensors"], "sub/model.safetensors")], ids=str)
def test_the_usual_file_of_weights_is_taken_or_else_the_only_one(files: list[str], chosen: str) -> None:
    assert repository(*files).choose_weights(None) == chosen
    assert repository(*files).choose_weights(files[0]) == files[0]


def test_of_several_files_one_must_be_named() -> None:
    with pytest.raises(UsageError, match=r"several files of weights, a\.pt, b\.pt: say which, as hub:a"):
        repository("b.pt", "a.pt", "README.md").choose_weights(None)
    with pytest.raises(UsageError, match=r"7\.pt and 92 more: say which"):
        repository(*(f"{number:02}.pt" for number in range(100))).choose_weights(None)


def test_a_repository_without_weights_says_what_it_has() -> None:
    with pytest.raises(CheckpointError, match=r"repository has no weights, only README\.md, tf_model\.h5; "):
        repository("tf_model.h5", "README.md").choose_weights(None)
    with pytest.raises(CheckpointError, match=r"the cache \(the Hub cannot be reached\) has no weights"):
        repository(is_cached_only=True).choose_weights(None)


def test_a_file_that_is_not_there_lists_the_weights_that_are() -> None:
    with pytest.raises(CheckpointError, match=rf"no file 'c\.pt' at {COMMIT}; the weights .* are a\.pt:"):
        repository("a.pt", "README.md").choose_weights("c.pt")


def test_a_full_name_names_the_same_file_again() -> None:
    assert parse_hub_name(repository().full_name("x/y.pt")) == HubName("a/b", "x/y.pt", COMMIT)
