"""Labelled sets: all layouts, and invalid ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from satexport.audio import datasets
from satexport.audio.clips import Clip
from satexport.audio.datasets import SYNTHETIC_CLIPS, load_set
from satexport.audio.labels import audioset_labels
from satexport.audio.synthetic import SYNTHETIC_CLASSES
from satexport.audio.tables import MAX_BYTES, MAX_LINES
from satexport.errors import DataError
from tests.machine import need

SAMPLE_RATE = 16_000  # Hz

soundfile = need("soundfile", "audio")
LABELS = audioset_labels()
DOG, SPEECH = "/m/0bt9lr", "/m/09x0r"
AUDIOSET_HEADER = ("# Segments csv created Sun Mar  5 10:54:31 2017\n"
                   "# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4\n"
                   "# YTID, start_seconds, end_seconds, positive_labels\n")


def write_audio(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(800, 0.25), 8000)


def write_esc50(folder: Path, rows: Sequence[tuple[str, int, str]], audio: bool = True) -> Path:
    (folder / "meta").mkdir(parents=True)
    lines = [f"{name},{fold},0,{category},False,1,A" for name, fold, category in rows]
    header = "filename,fold,target,category,esc10,src_file,take"
    (folder / "meta" / "esc50.csv").write_text("\n".join([header, *lines]) + "\n")
    if audio:
        write_audio(*(folder / "audio" / name for name, _, _ in rows))
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_synthetic_set_has_at_least_ten_clips_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "SYNTHETIC_CLIPS", SYNTHETIC_CLIPS)  # as shipped
    clips = load_set("synthetic", LABELS)
    assert clips.truth(LABELS).sum(axis=0).max() >= 10
    assert set(clips.classes) == set(SYNTHETIC_CLASSES)
    assert list(clips.classes) == sorted(clips.classes, key=LABELS.index)
    assert clips.truth(clips.classes).sum(axis=0).min() >= 10
    assert clips.clips[0].read(SAMPLE_RATE).shape == (6 * SAMPLE_RATE,)
    assert clips.origin["split"] == "evaluate"


def test_a_clip_that_is_too_long_is_refused_before_it_fills_the_memory() -> None:
    given = 0

    def blocks(_rate: int) -> Iterator[np.ndarray]:
        nonlocal given
        while True:
            given += 1
            yield np.zeros(60 * SAMPLE_RATE, np.float32)
    with pytest.raises(DataError, match="long: is longer than 15 minutes"):
        Clip("long", (), blocks).read(SAMPLE_RATE)
    assert given == 16


def test_a_set_in_esc50_layout_takes_labels_from_the_shipped_table(tmp_path: Path) -> None:
    rows = [("a.wav", 1, "rain"), ("b.ogg", 2, "dog"), ("c.flac", 2, "rain")]
    clips = load_set(write_esc50(tmp_path, rows), LABELS)
    assert [clip.labels for clip in clips.clips] == [("Rain",), ("Dog",), ("Rain",)]
    assert clips.classes == ("Dog", "Rain")
    assert clips.truth(clips.classes).tolist() == [[False, True], [True, False], [False, True]]
    assert clips.clips[0].read(SAMPLE_RATE).shape == (1600,)
    assert clips.origin["folds"] == ["1", "2"]


def test_folds_select_clips_and_only_their_files_are_needed(tmp_path: Path) -> None:
    rows = [("a.wav", 1, "rain"), ("b.wav", 2, "dog")]
    folder = write_esc50(tmp_path, rows, audio=False)
    write_audio(folder / "audio" / "b.wav")
    clips = load_set(folder, LABELS, folds=[2])
    assert [clip.name for clip in clips.clips] == ["b.wav"]
    for folds in ([7], [2, 7]):
        with pytest.raises(DataError, match=r"no clip in fold 7; it has the folds 1, 2: choose with --folds"):
            load_set(folder, LABELS, folds=folds)


def test_categories_that_are_labels_of_the_model_need_no_table(tmp_path: Path) -> None:
    folder = write_esc50(tmp_path, [("a.wav", 1, "rain"), ("b.wav", 2, "dog")])
    assert load_set(folder, ["rain", "dog", "cat"]).classes == ("rain", "dog")


def test_a_category_map_overrides_the_shipped_table(tmp_path: Path) -> None:
    folder = write_esc50(tmp_path / "esc", [("a.wav", 1, "rain"), ("b.wav", 2, "dog")])
    table = write(tmp_path / "map.csv", "category,label\ndog,Bark\n")
    clips = load_set(folder, LABELS, category_map=table)
    assert clips.classes == ("Bark", "Rain")
    assert clips.origin["category_map"] == str(table)


def test_categories_without_a_label_in_the_model_are_named(tmp_path: Path) -> None:
    folder = write_esc50(tmp_path, [(f"{x}.wav", 1, x) for x in ("a", "b", "c", "d", "rain")])
    with pytest.raises(DataError, match=r"the model has no label for a, b, c and 1 more.*category map"):
        load_set(folder, LABELS)


def test_a_map_to_a_label_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    folder = write_esc50(tmp_path / "esc", [("a.wav", 1, "rain")])
    table = write(tmp_path / "map.csv", "category,label\nrain,Drizzle\n")
    with pytest.raises(DataError, match="the model has no label for rain"):
        load_set(folder, LABELS, category_map=table)


def test_missing_audio_of_an_esc50_set_is_named(tmp_path: Path) -> None:
    folder = write_esc50(tmp_path, [("a.wav", 1, "rain"), ("b.wav", 1, "dog")], audio=False)
    with pytest.raises(DataError, match=r"2 of 2 audio files are missing.*a\.wav, b\.wav"):
        load_set(folder, LABELS)


def test_a_list_in_audioset_style_finds_its_audio_under_the_usual_names(tmp_path: Path) -> None:
    ids = {"-a_1": "audio/-a_1.wav", "bbb": "audio/Ybbb.flac", "ccc": "audio/ccc_30.ogg",
           "ddd": "ddd_30000.WAV", "eee": None}
    lines = [f'{video}, 30.000, 40.000, "{DOG},{SPEECH}"\n' for video in ids]
    path = write(tmp_path / "eval_segments.csv", "\n" + AUDIOSET_HEADER + "".join(lines))
    write_audio(*(tmp_path / name for name in ids.values() if name))
    for data in (path, tmp_path):
        clips = load_set(data, LABELS)
        assert [clip.labels for clip in clips.clips] == [("Dog", "Speech")] * 4
        assert clips.classes == ("Speech", "Dog")
        assert clips.origin["missing"] == 1
        assert clips.origin["missing_clips"] == ["eee"]
        assert [len(clip.read(SAMPLE_RATE)) for clip in clips.clips] == [1600] * 4


def test_an_audioset_list_without_any_audio_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", AUDIOSET_HEADER + f'aaa, 0.0, 10.0, "{DOG}"\n')
    with pytest.raises(DataError, match=r"none of its 1 clips .*aaa\.wav"):
        load_set(path, LABELS)


def test_an_invalid_line_of_an_audioset_list_is_quoted(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", AUDIOSET_HEADER + "aaa, start\n")
    with pytest.raises(DataError, match=r"list\.csv, line 4: is 'aaa,start'"):
        load_set(path, LABELS)


def test_a_csv_of_files_and_labels_finds_the_files_in_its_folder(tmp_path: Path) -> None:
    lines = 'filename,labels\nx/a.wav,Rain; Dog\n"b.wav","Rain"\nc.wav,\n'
    path = write(tmp_path / "my.csv", lines)
    write_audio(tmp_path / "x" / "a.wav", tmp_path / "b.wav", tmp_path / "c.wav")
    clips = load_set(path, LABELS)
    assert [clip.labels for clip in clips.clips] == [("Rain", "Dog"), ("Rain",), ()]
    assert clips.clips[0].read(SAMPLE_RATE).shape == (1600,)


def test_an_impossible_file_name_is_reported_as_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text(f"filename,labels\n{'a' * 5000}.wav,Dog\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"1 of 1 audio files are missing .*\(a{80}\.\.\.\)"):
        load_set(tmp_path / "set.csv", ["Dog"])
    with pytest.raises(DataError, match="does not exist"):
        load_set("a" * 5000, ["Dog"])


def test_missing_audio_of_a_csv_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "my.csv", "filename,labels\na.wav,Rain\n")
    with pytest.raises(DataError, match=r"1 of 1 audio files are missing.*a\.wav"):
        load_set(path, LABELS)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.csv", b"", "is empty"),
    ("a.csv", b"filename,labels\n", "has no rows below its header"),
    ("a.csv", b"name,tags\na.wav,Rain\n", "no column filename, labels"),
    ("a.csv", bytes(range(256)), "cannot be read as UTF-8 text"),
    ("a.csv", b"\0\1\2\3" * 99, "contains zero bytes"),
    ("a.csv", "filename,labels\na.wav,Rain\n".encode("utf-16-le"), "contains zero bytes, like UTF-16"),
    ("a.csv", b"filename,labels\n" + b"x" * 200_000, "line 2: is not valid csv"),
    ("a.csv", b"filename,labels\n" + b"\n" * MAX_LINES, "more than 250000 lines"),
    ("a.csv", b"#" * (MAX_BYTES + 1), "longer than 32 MB"),
    ("b.txt", b"", r"no csv in this folder; expected the word .synthetic.")])
def test_unusable_lists_are_refused(
        tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_set(tmp_path, LABELS)


@pytest.mark.parametrize(("table", "words"), [
    ("filename,labels\na.wav,Rain,Dog\n", "line 2: has 3 cells for 2 columns (a.wav,Rain,Dog); put a cell "
                                          "that contains a comma in quotes, and separate labels in one cell "
                                          "by semicolons."),
    ("filename,labels\na.wav,Rain\n\nb.wav\n", "line 4: has 1 cells for 2 columns (b.wav)"),
    ("filename,labels,labels\na.wav,Rain,Dog\n", "2 columns are named labels"),
    ("filename,labels\na.wav,Rain\nb.wav,Dog\na.wav,Dog\n", "line 4: a.wav is already listed in line 2"),
    ("filename,labels\n./a.wav,Rain\nb.wav,Dog\na.wav,Dog\n", "line 4: a.wav is already listed in line 2"),
    ("filename,labels\na.wav,Rain\nx/..//a.wav,Dog\n", "line 3: x/..//a.wav is already listed in line 2"),
    ('filename,labels\na.wav,"Rain\nb.wav,Dog\nc.wav,Dog"\n', "line 2: is not valid csv (a quote is not "
                                                              "closed"),
    ('filename,labels\na.wav,"Rain', "line 2: is not valid csv (a quote is not closed"),
    ('filename,labels\na.wav,"Rain" and "Dog"\n', "line 2: is not valid csv ("),
    ("filename,labels\na.wav,Rain\x00\n", "contains zero bytes")], ids=lambda text: repr(text)[-40:])
def test_a_row_that_does_not_match_the_header_is_named(tmp_path: Path, table: str, words: str) -> None:
    write_audio(*(tmp_path / f"{name}.wav" for name in "abc"))
    with pytest.raises(DataError, match=rf"set\.csv.*{re.escape(words)}"):
        load_set(write(tmp_path / "set.csv", table), LABELS)


def test_cells_may_be_quoted_or_padded_and_rows_may_end_with_empty_cells(tmp_path: Path) -> None:
    write_audio(*(tmp_path / f"{name}.wav" for name in "abc"))
    lines = ('filename, labels ,notes,notes', 'a.wav,"Burst, pop; Rain",,', ' b.wav , Dog , x,,,', '',
             ',,,', 'c.wav,"Rain" ,,  ')
    with pytest.raises(DataError, match="line 6"):  # a quote ends where its cell ends
        load_set(write(tmp_path / "set.csv", "\r\n".join(lines)), LABELS)
    clips = load_set(write(tmp_path / "set.csv", "\r\n".join(lines).replace('"Rain" ', '"Rain"')), LABELS)
    assert [clip.labels for clip in clips.clips] == [("Burst, pop", "Rain"), ("Dog",), ("Rain",)]


@pytest.mark.parametrize(("line", "words"), [
    ("c.wav,1,0,rain", "line 3: has 4 cells for 7 columns"),
    ("c.wav,one,0,rain,False,1,A", "line 3: the fold is 'one', expected a number"),
    ("c.wav,1.0,0,rain,False,1,A", "line 3: the fold is '1.0', expected a number"),
    ("a.wav,2,0,rain,False,1,A", "line 3: a.wav is already listed in line 2"),
    ("./a.wav,2,0,rain,False,1,A", "line 3: ./a.wav is already listed in line 2")])
def test_an_invalid_row_of_esc50_is_named(tmp_path: Path, line: str, words: str) -> None:
    folder = write_esc50(tmp_path, [("a.wav", 1, "rain")])
    with (folder / "meta" / "esc50.csv").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=rf"esc50\.csv, {re.escape(words)}"):
        load_set(folder, LABELS, folds=[1])


@pytest.mark.parametrize(("row", "words"), [
    ("dog,Bark,Dog", "line 3: has 3 cells for 2 columns"), ("dog", "line 3: has 1 cells for 2 columns"),
    ("rain,Dog", "line 3: maps rain to Dog, an earlier line to Rain")])
def test_an_invalid_row_of_a_category_map_is_named(tmp_path: Path, row: str, words: str) -> None:
    folder = write_esc50(tmp_path / "esc", [("a.wav", 1, "rain"), ("b.wav", 2, "dog")])
    table = write(tmp_path / "map.csv", f"category,label\nrain,Rain\n{row}\n")
    with pytest.raises(DataError, match=rf"map\.csv, {re.escape(words)}"):
        load_set(folder, LABELS, category_map=table)


@pytest.mark.parametrize(("line", "words"), [
    (f"aaa, 0.0, 10.0, {DOG},{SPEECH}", "line 5: is 'aaa,0.0,10.0,"),
    (f'aaa, 0.0, 10.0, "{DOG}', "line 5: is not valid csv (a quote is not closed"),
    (f'bbb, 0.0, 10.0, "{DOG}"', "line 5: bbb.wav is already listed in line 4")])
def test_an_invalid_line_of_an_audioset_list_is_named(tmp_path: Path, line: str, words: str) -> None:
    write_audio(tmp_path / "aaa.wav", tmp_path / "bbb.wav")
    path = write(tmp_path / "list.csv", AUDIOSET_HEADER + f'bbb, 0.0, 10.0, "{DOG}" \n{line}\n')
    with pytest.raises(DataError, match=rf"list\.csv, {re.escape(words)}"):
        load_set(path, LABELS)


def test_a_csv_whose_clips_have_no_label_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "my.csv", "filename,labels\na.wav,\n")
    write_audio(tmp_path / "a.wav")
    with pytest.raises(DataError, match="no clip has a label"):
        load_set(path, LABELS)


def test_a_folder_with_two_lists_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "x")
    write(tmp_path / "b.csv", "x")
    with pytest.raises(DataError, match=r"a\.csv, b\.csv in this folder.*Name the list"):
        load_set(tmp_path, LABELS)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: does not exist; expected"):
        load_set(tmp_path / "gone", LABELS)


def test_folds_for_a_set_without_folds_are_refused() -> None:
    with pytest.raises(DataError, match="synthetic: has no folds"):
        load_set("synthetic", LABELS, folds=[1])


def test_the_shared_esc10_has_ten_classes_in_each_fold(shared: Path) -> None:
    clips = load_set(shared / "esc10", LABELS, folds=[4])
    assert len(clips.clips) == 80
    assert clips.truth(clips.classes).sum(axis=0).tolist() == [8] * 10
    assert clips.clips[0].read(SAMPLE_RATE).shape == pytest.approx((5 * SAMPLE_RATE,), rel=0.01)
    assert clips.origin["licence"] == "CC BY (ESC-10)"
