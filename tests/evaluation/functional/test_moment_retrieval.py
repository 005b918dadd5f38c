# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import copy

import numpy as np
import pytest

from mesm_plugin.evaluation.functional import AVERAGED_THRESHOLDS, LENGTH_RANGES, evaluate_moment_retrieval

GROUND_TRUTH = [
    {"qid": 7, "relevant_windows": [[0, 10]]},
    {"qid": "b", "relevant_windows": [[0, 20], [50, 90]]},
    {"qid": 9, "relevant_windows": [[30, 60]]},
    {"qid": 10, "relevant_windows": [[5, 10]]},
]
PREDICTIONS = [
    {"qid": 7, "pred_relevant_windows": [[0, 5, 0.2], [0, 10, 0.9]]},
    {"qid": "b", "pred_relevant_windows": [[0, 20, 0.9], [0, 20, 0.8], [50, 90, 0.7]]},
    {"qid": 9, "pred_relevant_windows": []},
    {"qid": 10, "pred_relevant_windows": [[6, 10, 0.9]]},
]


def with_record(records, index, **fields):
    records = copy.deepcopy(records)
    records[index].update(fields)
    return records


def test_the_peers_numbers_to_the_last_digit(golden):
    names = {name for name, value in golden.expected.items() if isinstance(value, dict) and "MR-mAP" in value}
    # The peers know the range above 150 s for TACoS only.
    length_ranges = {name: LENGTH_RANGES[name] for name in LENGTH_RANGES if name != "superlong" or name in names}
    results = evaluate_moment_retrieval(
        golden.predictions,
        golden.ground_truth,
        r1_thresholds=golden.r1_thresholds,
        map_thresholds=golden.map_thresholds,
        length_ranges=length_ranges,
    )
    assert results.keys() - {"brief"} == names
    for name in names:
        expected = golden.expected[name]
        assert results[name]["MR-mAP"] == expected["MR-mAP"], name
        assert {key: results[name]["MR-R1"][key] for key in expected["MR-R1"]} == expected["MR-R1"], name
    for key, value in golden.expected["brief"].items():
        if key.startswith("MR-"):
            assert results["brief"].get(key) == value, key


def test_a_shifted_window_changes_the_golden_numbers(golden):
    predictions = copy.deepcopy(golden.predictions)
    for record in predictions[:: max(1, len(predictions) // 20)]:
        record["pred_relevant_windows"][0][:2] = [-2.0, -1.0]
    results = evaluate_moment_retrieval(predictions, golden.ground_truth, map_thresholds=golden.map_thresholds)
    assert results["full"]["MR-mAP"] != golden.expected["full"]["MR-mAP"]


def test_numbers_by_hand():
    results = evaluate_moment_retrieval(PREDICTIONS, GROUND_TRUTH)
    # First windows: IoU 0.5, 1, none, 0.8. Average precision: 1 / 5/6 / 0 / 1 up to IoU 0.8, then 1 / 5/6 / 0 / 0.
    assert results["full"] == {
        "MR-R1": {"0.3": 75.0, "0.5": 75.0, "0.7": 50.0, "miou": 57.5},
        "MR-mAP": {"0.5": 70.83, "0.75": 70.83, "average": 63.33},
    }
    assert results["short"] == {
        "MR-R1": {"0.3": 100.0, "0.5": 100.0, "0.7": 50.0, "miou": 65.0},
        "MR-mAP": {"0.5": 100.0, "0.75": 100.0, "average": 85.0},
    }
    # Query "b" keeps [0, 20] here; query 9, of exactly 30 s, belongs here too.
    assert results["middle"]["MR-R1"] == {"0.3": 50.0, "0.5": 50.0, "0.7": 50.0, "miou": 50.0}
    assert results["middle"]["MR-mAP"]["average"] == 50.0
    # Query "b" keeps [50, 90], found third; its first window does not touch it.
    assert results["long"]["MR-R1"] == {"0.3": 0.0, "0.5": 0.0, "0.7": 0.0, "miou": 0.0}
    assert results["long"]["MR-mAP"]["average"] == 33.33
    assert "superlong" not in results
    assert results["brief"] == {
        "MR-full-R1@0.3": 75.0,
        "MR-full-R1@0.5": 75.0,
        "MR-full-R1@0.7": 50.0,
        "MR-full-miou": 57.5,
        "MR-full-mAP@0.5": 70.83,
        "MR-full-mAP@0.75": 70.83,
        "MR-full-mAP": 63.33,
        "MR-short-mAP": 85.0,
        "MR-middle-mAP": 50.0,
        "MR-long-mAP": 33.33,
        "MR-superlong-mAP": None,
    }


def test_the_order_of_the_records_does_not_matter():
    assert evaluate_moment_retrieval(PREDICTIONS[::-1], GROUND_TRUTH) == evaluate_moment_retrieval(
        PREDICTIONS, GROUND_TRUTH
    )


def test_only_the_first_ten_windows_listed_count_for_map():
    wrong = [[100 + index, 101 + index, 0.1] for index in range(10)]
    ground_truth = [{"qid": 1, "relevant_windows": [[0, 10]]}]
    tenth = [{"qid": 1, "pred_relevant_windows": [*wrong[:9], [0, 10, 0.9]]}]
    eleventh = [{"qid": 1, "pred_relevant_windows": [*wrong, [0, 10, 0.9]]}]
    assert evaluate_moment_retrieval(tenth, ground_truth)["brief"]["MR-full-mAP"] == 100.0
    assert evaluate_moment_retrieval(eleventh, ground_truth)["brief"]["MR-full-mAP"] == 0.0


def test_no_query_has_a_prediction():
    predictions = [{"qid": record["qid"], "pred_relevant_windows": []} for record in GROUND_TRUTH]
    results = evaluate_moment_retrieval(predictions, GROUND_TRUTH)
    assert {value for value in results["brief"].values() if value is not None} == {0.0}


def test_zero_length_windows_and_moments_give_finite_misses():
    ground_truth = [*GROUND_TRUTH, {"qid": 11, "relevant_windows": [[4, 4]]}]
    predictions = [{"qid": record["qid"], "pred_relevant_windows": [[4, 4, 0.5]]} for record in ground_truth]
    results = evaluate_moment_retrieval(predictions, ground_truth)
    assert {value for value in results["brief"].values() if value is not None} == {0.0}


def test_any_thresholds_and_ranges():
    results = evaluate_moment_retrieval(
        PREDICTIONS,
        GROUND_TRUTH,
        r1_thresholds=np.arange(0.1, 1, 0.4),
        map_thresholds=[0.81],
        length_ranges={"up to 5 s": (0, 5), "rest": (5, float("inf"))},
    )
    assert results["full"]["MR-R1"] == {"0.1": 75.0, "0.5": 75.0, "0.9": 25.0, "miou": 57.5}
    assert results["full"]["MR-mAP"] == {"0.81": 45.83, "average": 63.33}
    assert results["up to 5 s"]["MR-R1"]["miou"] == 80.0
    assert results["rest"]["MR-R1"]["miou"] == 50.0


def test_recall_at_five():
    wrong = [[100, 101, 0.1]]
    ground_truth = [{"qid": qid, "relevant_windows": [[0, 10]]} for qid in range(2)]
    predictions = [{"qid": qid, "pred_relevant_windows": [*wrong * (4 + qid), [0, 8, 0.9]]} for qid in range(2)]
    results = evaluate_moment_retrieval(predictions, ground_truth, r5_thresholds=[0.5, 0.9])
    assert results["short"]["MR-R5"] == results["full"]["MR-R5"] == {"0.5": 50.0, "0.9": 0.0}
    assert results["brief"]["MR-full-R5@0.5"] == 50.0
    assert "MR-R5" not in evaluate_moment_retrieval(predictions, ground_truth)["full"]
    with pytest.raises(ValueError, match=r"r5_thresholds has 50\.0; expected"):
        evaluate_moment_retrieval(predictions, ground_truth, r5_thresholds=[50])


def test_numpys_thresholds_are_the_printed_ones():
    # The two windows have IoU 0.65 exactly, and 0.65 of np.arange is a little more than that.
    predictions = [{"qid": 1, "pred_relevant_windows": [[0, 13, 0.9]]}]
    ground_truth = [{"qid": 1, "relevant_windows": [[0, 20]]}]
    thresholds = np.arange(0.5, 1, 0.05)
    assert thresholds[3] > 0.65
    results = evaluate_moment_retrieval(
        predictions, ground_truth, r1_thresholds=thresholds, map_thresholds=AVERAGED_THRESHOLDS
    )
    assert results["full"]["MR-R1"]["0.65"] == results["full"]["MR-mAP"]["0.65"] == 100.0


def test_percentages_round_like_string_formatting():
    # 3.125, 0.375 and 52.625 are exact in binary, so the tie goes to the even digit.
    for count, hits, expected in ((32, 1, 3.12), (800, 3, 0.38), (800, 421, 52.62)):
        ground_truth = [{"qid": qid, "relevant_windows": [[0, 10]]} for qid in range(count)]
        predictions = [
            {"qid": qid, "pred_relevant_windows": [[0, 10, 0.9] if qid < hits else [20, 30, 0.9]]}
            for qid in range(count)
        ]
        assert evaluate_moment_retrieval(predictions, ground_truth)["full"]["MR-R1"]["0.5"] == expected


@pytest.mark.parametrize(
    ("predictions", "ground_truth", "message"),
    [
        ([*PREDICTIONS, PREDICTIONS[1]], GROUND_TRUTH, r"qid 'b' more than once in the predictions"),
        (PREDICTIONS, [*GROUND_TRUTH, GROUND_TRUTH[0]], r"qid 7 more than once in the ground truth"),
        (PREDICTIONS[:2], GROUND_TRUTH, r"qid 9, 10 of the ground truth without a prediction record"),
        (PREDICTIONS, GROUND_TRUTH[1:], r"qid 7 of the predictions not in the ground truth"),
        ([], [], r"no ground-truth records"),
        ([{"vid": "x"}], GROUND_TRUTH, r"record 0 of the predictions has no qid; it has \['vid'\]"),
        ([{"qid": 7}, *PREDICTIONS[1:]], GROUND_TRUTH, r"qid 7 has no pred_relevant_windows"),
        (PREDICTIONS, [{"qid": 7}, *GROUND_TRUTH[1:]], r"qid 7 has no relevant_windows; .*unlabelled"),
        (PREDICTIONS, with_record(GROUND_TRUTH, 1, relevant_windows=[]), r"qid 'b' has no moment"),
        (PREDICTIONS, with_record(GROUND_TRUTH, 1, relevant_windows=[[0, 5], [9, 8]]), r"qid 'b': .*ends before"),
        (PREDICTIONS, with_record(GROUND_TRUTH, 3, relevant_windows=[[0, float("inf")]]), r"qid 10: window 0 .*inf"),
        (
            with_record(PREDICTIONS, 1, pred_relevant_windows=[[0, 1, 0.9], [0, float("nan"), 0.5]]),
            GROUND_TRUTH,
            r"qid 'b': window 1 of pred_relevant_windows is \[0.0, nan, 0.5\]; expected finite numbers",
        ),
        (with_record(PREDICTIONS, 0, pred_relevant_windows=[[0, 1, float("nan")]]), GROUND_TRUTH, r"qid 7: window 0"),
        (with_record(PREDICTIONS, 0, pred_relevant_windows=[[0, 1]]), GROUND_TRUTH, r"qid 7: .*shape \(1, 2\)"),
        (with_record(PREDICTIONS, 0, pred_relevant_windows=[[0, 1, 1], [0]]), GROUND_TRUTH, r"qid 7: .*rows of 3"),
    ],
)
def test_bad_records_are_named(predictions, ground_truth, message):
    with pytest.raises(ValueError, match=message):
        evaluate_moment_retrieval(predictions, ground_truth)


def test_many_bad_qids_are_counted():
    with pytest.raises(ValueError, match=r"qid 0, 1, 2, 3, 4 and 5 more of the ground truth"):
        evaluate_moment_retrieval([], [{"qid": qid, "relevant_windows": [[0, 1]]} for qid in range(10)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r1_thresholds": [0.5, 50]}, r"r1_thresholds has 50.0; expected .* not percent"),
        ({"map_thresholds": [0.0]}, r"map_thresholds has 0.0"),
        ({"length_ranges": {"full": (0, 10)}}, r"'full', which is reserved"),
        ({"length_ranges": {"short": (10, 0)}}, r"length_ranges\['short'\] is \(10, 0\)"),
        ({"length_ranges": {"short": (10,)}}, r"length_ranges\['short'\] is \(10,\)"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_moment_retrieval(PREDICTIONS, GROUND_TRUTH, **options)
