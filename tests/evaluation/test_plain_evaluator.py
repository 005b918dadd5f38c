# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The vectorised evaluators and the plain ones print the same numbers."""

import sys

import numpy as np
import pytest

from bench.evaluators import compare, moment_retrieval
from mesm_plugin.evaluation import evaluate_highlight_detection
from tests.evaluation import plain_evaluator


def random_records(seed, queries=40):
    """Predictions and ground truth on a coarse grid, so that windows, overlaps and scores often tie."""
    rng = np.random.default_rng(seed)
    predictions, ground_truth = [], []
    for qid in range(queries):
        clips = int(rng.integers(6, 75))
        grades = rng.integers(0, 5, (clips, 3))
        moments = min(int(rng.choice([1, 1, 2, 3, 5, 12])), (clips + 1) // 2)
        edges = np.sort(rng.choice(clips + 1, 2 * moments, replace=False)) * 2
        relevant = rng.permutation(clips)[: rng.integers(1, clips + 1)]
        ground_truth.append(
            {
                "qid": qid,
                "duration": 2 * clips + float(rng.choice([0, 0.5])),
                "relevant_windows": edges.reshape(-1, 2).tolist(),
                "relevant_clip_ids": relevant.tolist(),
                "saliency_scores": grades[: len(relevant)].tolist(),
            }
        )
        starts = rng.integers(0, clips, rng.integers(1, 13)) * 2
        windows = [[int(s), int(s + 2 * rng.integers(0, 20)), float(rng.integers(5)) / 4] for s in starts]
        scores = rng.integers(-3, 4, clips + rng.integers(-2, 3)).tolist()
        predictions.append({"qid": qid, "pred_relevant_windows": windows, "pred_saliency_scores": scores})
    return predictions, ground_truth


@pytest.mark.parametrize("seed", range(5))
def test_same_numbers(seed):
    predictions, ground_truth = random_records(seed)
    moments = plain_evaluator.moment_retrieval(predictions, ground_truth)
    assert moments["full"]["MR-mAP"]["average"] > 0
    assert moment_retrieval(predictions, ground_truth) == moments
    highlights = plain_evaluator.highlight_detection(predictions, ground_truth)
    assert 0 < highlights["HL-min-VeryGood"]["HL-mAP"] < highlights["HL-min-Fair"]["HL-mAP"] < 100
    assert evaluate_highlight_detection(predictions, ground_truth) == highlights


PEER = """
import multiprocessing as mp

from tests.evaluation import plain_evaluator


def eval_moment_retrieval(predictions, ground_truth, verbose=True):
    with mp.Pool(8) as pool:
        (scores,) = pool.imap_unordered(lambda truth: plain_evaluator.moment_retrieval(predictions, truth),
                                        [ground_truth], chunksize=50)
    return scores


def eval_highlight(predictions, ground_truth, verbose=True):
    return plain_evaluator.highlight_detection(predictions, ground_truth)
"""


def write_peer(folder, code, monkeypatch):
    (folder / "standalone_eval").mkdir()
    (folder / "standalone_eval" / "eval.py").write_text(code)
    monkeypatch.setattr("sys.path", list(sys.path))
    for name in ("standalone_eval", "standalone_eval.eval"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_benchmark_measures_all(tmp_path, monkeypatch):
    write_peer(tmp_path, PEER, monkeypatch)
    seconds = compare(*random_records(0), repeat=1, peer=tmp_path)
    assert list(seconds) == ["moments", "highlights"]
    assert all(list(times) == ["vectorised", "plain", "peer"] for times in seconds.values())
    assert all(value > 0 for times in seconds.values() for value in times.values())


def test_the_benchmark_compares_the_numbers(tmp_path, monkeypatch):
    write_peer(tmp_path, PEER.replace("return scores", "return {}"), monkeypatch)
    with pytest.raises(AssertionError, match=r"moments: peer gives \{\}"):
        compare(*random_records(0), repeat=1, peer=tmp_path)
