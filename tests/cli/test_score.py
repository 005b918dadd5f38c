# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm score` on submissions of this and other code bases."""

import json

import pytest

from mesm_plugin.cli.main import main

TRUTH = [
    {"qid": 7, "vid": "a", "query": "One.", "duration": 20, "relevant_windows": [[0, 10]]},
    {"qid": 8, "vid": "b", "query": "Two.", "duration": 20, "relevant_windows": [[4, 8], [10, 12]]},
]
SUBMISSION = [
    {"qid": 8, "vid": "b", "query": "Two.", "pred_relevant_windows": [[4, 7, 0.9]]},
    {"qid": 7, "vid": "a", "query": "One. ", "pred_relevant_windows": [[0, 4, 0.5], [0, 10, 0.4]]},
]


def lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.fixture
def score(tmp_path, capsys):
    """Scores records; returns the exit status, the scores and what was printed."""

    def run(submission=SUBMISSION, truth=TRUTH, *arguments):
        files = [lines(tmp_path / "submission.jsonl", submission)]
        files += truth if isinstance(truth[0], str) else [lines(tmp_path / "truth.jsonl", truth)]
        code = main(["score", *files, *arguments, "--json", str(tmp_path / "scores.json")])
        output = capsys.readouterr()
        return code, json.loads((tmp_path / "scores.json").read_text()) if code == 0 else None, output.out + output.err

    return run


def test_scores(score):
    code, scores, text = score()
    assert code == 0
    # First windows: 4 of 10 s, 3 of 4 s.
    assert (scores["R1@0.3"], scores["R1@0.5"], scores["R1@0.7"], scores["mIoU"]) == (100, 50, 50, 57.5)
    assert scores["R5@0.7"] == 100
    assert "highlights/Fair/mAP" not in scores
    assert "on truth (2 queries)" in text


def test_chosen_thresholds(score):
    _, scores, _ = score(SUBMISSION, TRUTH, "--r1", "0.4", "--r5", "--map", "0.6")
    assert scores["R1@0.4"] == 100
    assert not {"R1@0.5", "R5@0.5", "mAP@0.5"} & scores.keys()
    assert "mAP@0.6" in scores


def test_highlights_where_both_have_them(score):
    truth = [{**record, "relevant_clip_ids": [1], "saliency_scores": [[4, 1, 2]]} for record in TRUTH]
    clips = [[0, 1, *[0] * 8], [1, *[0] * 9]]
    submission = [{**record, "pred_saliency_scores": row} for record, row in zip(SUBMISSION, clips, strict=True)]
    assert score(submission, truth)[1]["highlights/VeryGood/HIT@1"] == 50
    assert "highlights/VeryGood/HIT@1" not in score(SUBMISSION, truth)[1]


def test_other_numbers_of_the_queries(score):
    code, scores, text = score([{**record, "qid": f"q{record['qid']}"} for record in SUBMISSION])
    assert (code, scores["mIoU"]) == (0, 57.5)
    assert "matched by video and sentence" in text


def test_numbers_as_text(score):
    code, scores, text = score([{**record, "qid": str(record["qid"])} for record in SUBMISSION])
    assert (code, scores["mIoU"]) == (0, 57.5)
    assert "matched" not in text


def test_the_same_numbers_of_other_queries(score):
    swapped = [{**record, "qid": 15 - record["qid"]} for record in SUBMISSION]
    code, scores, text = score(swapped)
    assert (code, scores["mIoU"]) == (0, 57.5)
    assert "matched by video and sentence" in text


def test_clip_scores_of_some_queries(score):
    truth = [{**record, "relevant_clip_ids": [1], "saliency_scores": [[4, 1, 2]]} for record in TRUTH]
    code, _, text = score([SUBMISSION[0], {**SUBMISSION[1], "pred_saliency_scores": [1.0]}], truth)
    assert code == 2
    assert "qid 8 has no pred_saliency_scores" in text


def test_published_files(score, tmp_path):
    (tmp_path / "charades_sta_test.txt").write_text("a 0.0 10.0##One.\nb 4.0 8.0##Two.\n")
    (tmp_path / "Charades_v1_test.csv").write_text("id,length\na,20\nb,20\n")
    charades = [{**record, "qid": index} for record, index in zip(SUBMISSION, (1, 0), strict=True)]
    assert score(charades, [str(tmp_path / "charades_sta_test.txt")])[1]["mIoU"] == 57.5
    entry = {"timestamps": [[0, 100], [40, 80]], "sentences": ["One.", "Two."]}
    (tmp_path / "test.json").write_text(json.dumps({"a.avi": {**entry, "fps": 10, "num_frames": 200}}))
    tacos = [{**record, "qid": f"test-{index}"} for record, index in zip(SUBMISSION, (2, 1), strict=True)]
    assert score(tacos, [str(tmp_path / "test.json")])[1]["mIoU"] == 57.5
    for name, key in (("novel_word", "duration"), ("charades_test_ood", "video_duration")):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"a": {"timestamps": [[0, 10]], "sentences": ["One."], key: 20}})
        )
    both = [
        {**SUBMISSION[1], "qid": "novel_word-1"},
        {**SUBMISSION[0], "vid": "a", "query": "One.", "qid": "charades_test_ood-1"},
    ]
    _, scores, _ = score(both, [str(tmp_path / "novel_word.json"), str(tmp_path / "charades_test_ood.json")])
    assert {name: values["mIoU"] for name, values in scores.items()} == {"novel_word": 40, "charades_test_ood": 30}


@pytest.mark.parametrize(
    ("submission", "truth", "problem"),
    [
        (SUBMISSION[:1], TRUTH, "qid 7 of the ground truth without a prediction record"),
        ([*SUBMISSION, {**SUBMISSION[0], "qid": 9}], TRUTH, "qid 9 of the submission (1 of 3 queries) not in the"),
        (
            [{**SUBMISSION[0], "qid": 1, "query": "Three."}],
            TRUTH,
            "which have no sentence 'Three.' of video 'b', its qid 1;",
        ),
        (
            [{"qid": 1, "pred_relevant_windows": [[0, 1, 1]]}],
            TRUTH,
            "in the annotations, such as 1, which has no 'vid' and 'query'",
        ),
        ([{"qid": 7, "pred_relevant_windows": [[True, 2, 1]]}], TRUTH, "'pred_relevant_windows' is no list of"),
        ([{"qid": 7}], TRUTH, "submission.jsonl:1: 'pred_relevant_windows' is no list of [start, end, score]"),
        ([{"qid": 7, "pred_relevant_windows": [[0, 1e400, 1]]}], TRUTH, "'pred_relevant_windows' is no list of"),
        ([{"qid": 7, "pred_relevant_windows": [[0, 10**400, 1]]}], TRUTH, "'pred_relevant_windows' is no list of"),
        ([SUBMISSION[0]] * 2, TRUTH, "submission.jsonl:2: 'qid' 8 is also in line 1"),
        ([], TRUTH, "submission.jsonl is empty"),
        (SUBMISSION, [{"qid": 7}], "truth.jsonl:1: qid 7 has no 'relevant_windows'; a split without labels"),
        (SUBMISSION, [["a"]], "truth.jsonl:1: expected a JSON object with a 'qid'"),
    ],
)
def test_bad_input(score, submission, truth, problem):
    code, _, text = score(submission, truth)
    assert code == 2
    assert problem in text
    assert "Traceback" not in text
