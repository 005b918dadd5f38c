# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
import zipfile

import pytest

from mesm_plugin.cli.main import main
from mesm_plugin.evaluation.server_archive import write_server_archive

RECORD = {"qid": 1, "pred_relevant_windows": [[0, 2, 0.5]], "pred_saliency_scores": [0.25, -1]}


@pytest.fixture
def write(tmp_path):
    """Writes a submission."""

    def make(name, *records):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
        return tmp_path / name

    return make


def test_archive(write, tmp_path):
    val, test = write("a.jsonl", RECORD, {**RECORD, "qid": 2}), write("b.jsonl", {**RECORD, "qid": 3})
    assert write_server_archive(val, test, tmp_path / "out" / "x.zip") == {"val": 2, "test": 1}
    with zipfile.ZipFile(tmp_path / "out" / "x.zip") as archive:
        assert archive.namelist() == ["hl_val_submission.jsonl", "hl_test_submission.jsonl"]
        assert archive.read("hl_val_submission.jsonl") == val.read_bytes()
        assert archive.read("hl_test_submission.jsonl") == test.read_bytes()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_archive_is_utf8_without_mark(write, tmp_path, encoding):
    val, test = write("a.jsonl", RECORD), write("b.jsonl", {**RECORD, "qid": 3})
    (tmp_path / "marked.jsonl").write_text(val.read_text().rstrip(), encoding=encoding)
    write_server_archive(tmp_path / "marked.jsonl", test, tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.read("hl_val_submission.jsonl") == val.read_bytes()


def test_command(write, tmp_path, capsys):
    val, test, out = write("a.jsonl", RECORD), write("b.jsonl", {**RECORD, "qid": 3}), tmp_path / "x.zip"
    assert main(["submission", str(val), str(test), "--out", str(out)]) == 0
    expected = f"{out}: hl_val_submission.jsonl (1 queries), hl_test_submission.jsonl (1 queries)\n"
    output = capsys.readouterr()
    assert output.out == expected
    assert "warning: hl_val_submission.jsonl has 1 queries, but the val split 1550;" in output.err
    assert main(["submission", str(val), str(val), "--out", str(out)]) == 2
    assert "mesm submission: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({}, "expected a JSON object with a 'qid'"),
        ([], "expected a JSON object with a 'qid'"),
        ({**RECORD, "qid": 2}, "'qid' 2 is also in line 1"),
        ({"qid": 3}, r"'pred_relevant_windows' is no list of \[start, end, score\]"),
        ({**RECORD, "qid": 3, "pred_relevant_windows": [[1, 2]]}, "'pred_relevant_windows' is no list"),
        (
            {**RECORD, "qid": 3, "pred_saliency_scores": []},
            "'pred_saliency_scores' is no list of a score for each clip",
        ),
        ({**RECORD, "qid": 3, "pred_saliency_scores": [float("nan")]}, "'pred_saliency_scores' is no list"),
    ],
)
def test_bad_lines(write, tmp_path, record, problem):
    val, test = write("val.jsonl", RECORD), write("test.jsonl", {**RECORD, "qid": 2}, record)
    with pytest.raises(ValueError, match=rf"test\.jsonl:2: {problem}"):
        write_server_archive(val, test, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (RECORD, r"'qid' 1 is also in .*val\.jsonl; expected two splits"),
        ({"qid": 3, "pred_relevant_windows": []}, "qid 3 has no 'pred_saliency_scores', which the server scores"),
    ],
)
def test_other_splits(write, tmp_path, record, problem):
    with pytest.raises(ValueError, match=rf"test\.jsonl: {problem}"):
        write_server_archive(write("val.jsonl", RECORD), write("test.jsonl", record), tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_bad_files(write, tmp_path):
    val = write("val.jsonl", RECORD)
    with pytest.raises(FileNotFoundError, match=r"submission .*gone\.jsonl does not exist; `mesm test"):
        write_server_archive(val, tmp_path / "gone.jsonl", tmp_path / "x.zip")
    with pytest.raises(ValueError, match=r"empty\.jsonl is empty, expected a line a query"):
        write_server_archive(val, write("empty.jsonl"), tmp_path / "x.zip")
    (tmp_path / "cut.jsonl").write_text('{"qid": 2, "pre')
    with pytest.raises(ValueError, match=r"cut\.jsonl:1: not a line of JSON .*; is the file complete\?"):
        write_server_archive(val, tmp_path / "cut.jsonl", tmp_path / "x.zip")
