# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from mesm_plugin.cli.main import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "charades" / "annotations"
    folder.mkdir(parents=True)
    for split, sentence in (("train", "Person opens a door."), ("test", "person closes")):
        (folder / f"charades_sta_{split}.txt").write_text(f"{split} 0.0 4.0##{sentence}\n")
        (folder / f"Charades_v1_{split}.csv").write_text(f"id,length\n{split},9.0\n")
    return tmp_path / "data"


def test_counts_are_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "new" / "counts.txt"
    assert main(["vocabulary", "Charades-STA", "--data", str(data), "--out", str(out)]) == 0
    assert out.read_text() == "person 6 2\nopens 5 1\na 2 1\ndoor 4 1\ncloses 3 1\n"
    printed = capsys.readouterr().out
    assert printed == (f"Charades-STA (train, test): 2 sentences, 5 words that occur 6 times; written to {out}\n")


def test_counts_on_standard_output(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["vocabulary", "charades", "--data", str(data), "--out", "-"]
    assert main([*command, "--split", "test", "TEST"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "person 3 1\ncloses 2 1\n"
    assert "1 sentences, 2 words that occur 2 times" in printed.err
    assert main([*command, "--max-words", "1"]) == 0
    assert capsys.readouterr().out == "person 2 2\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("", ""), "; the same as "),
        (("opens 5 1\na 2 1", "a 2 1\nopens 5 1"), "; the same counts as "),
        (("door 4 1", "door 4 2"), "; 1 entries differ from "),
    ],
)
def test_comparison_with_the_published_file(
    data: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str
) -> None:
    published = data / "charades" / "annotations" / "GloVe_tokenized_count.txt"
    published.write_text("person 6 2\nopens 5 1\na 2 1\ndoor 4 1\ncloses 3 1\n".replace(*change))
    assert main(["vocabulary", "charades", "--data", str(data), "--out", str(data / "counts.txt")]) == 0
    assert f"{said}{published}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["charadse"], "there is no data set 'charadse'; did you mean charades"),
        (["tacos"], "annotation file not found: "),
        (["charades", "--split", "val"], "Charades-STA has no split 'val', expected one of train, test"),
        (["charades", "--max-words", "0"], "max_words is 0, expected at least 1"),
        (["charades", "--clip-bpe", "missing.txt.gz"], "byte-pair vocabulary not found: missing.txt.gz"),
    ],
)
def test_bad_arguments(data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    out = data / "counts.txt"
    assert main(["vocabulary", *arguments, "--data", str(data), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["full", "."])
def test_out_is_a_folder(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(data)
    (data / "full").mkdir()
    assert main(["vocabulary", "charades", "--data", str(data), "--out", name]) == 2
    assert "is a folder, expected a file to write" in capsys.readouterr().err


def test_a_broken_line_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "charades" / "annotations" / "charades_sta_test.txt").write_text("test 0.0\n")
    assert main(["vocabulary", "charades", "--data", str(data), "--out", "-"]) == 2
    assert "charades_sta_test.txt:1" in capsys.readouterr().err
