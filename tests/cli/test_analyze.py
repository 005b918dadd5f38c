# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""`mesm analyze` on the synthetic data set."""

import json

import numpy as np
import pytest
import torch

from mesm_plugin.analysis import PAIRS, subspace_similarity
from mesm_plugin.apis import GroundingInferencer
from mesm_plugin.datasets import collate_grounding
from mesm_plugin.engine.config_loading import read_config

KEYS = [pair.key for pair in PAIRS]


@pytest.fixture(scope="module")
def analyze(command, trained, small):
    def run(*arguments):
        return command("analyze", "similarity", "mesm_synthetic", trained.best, "--cfg-options", *small, *arguments)

    return run


@pytest.fixture(scope="module")
def last(trained):
    return trained.work_dir / "epoch_2.pth"


def expected_lines(small, checkpoint, index, place):
    """Similarities of one query from the network's tensors, the query alone in its batch."""
    inferencer = GroundingInferencer(read_config("mesm_synthetic", small), checkpoint)
    inferencer.dataset.full_init()
    item = inferencer.dataset[index]
    item["queries"] = item["queries"][place : place + 1]
    inputs = collate_grounding([item], training=False)["inputs"]
    with torch.inference_mode():
        output = inferencer.model(inputs, mode="tensor")
    inside = item["queries"][0]["segment_mask"]
    words, clips = output.projected.words[0], output.projected.clips[0][inside]
    enhanced = output.aligned.extra["enhanced_clips"][0][inside]
    pairs = [(words, clips), (words, enhanced), (output.aligned.words[0], enhanced)]
    return [subspace_similarity(text.numpy(), segment.numpy()) for text, segment in pairs]


def test_one_query(analyze, last, small, trained, tmp_path):
    output = analyze(
        *["--query", "3", "--without-mlm", "mesm_synthetic", last],
        *["--json", tmp_path / "x.json", "--plot", tmp_path / "x.svg"],
    )
    assert (output.code, output.err) == (0, "")
    record = json.loads((tmp_path / "x.json").read_text())
    (query,) = record["queries"]
    assert query["qid"] == 3
    assert list(record["pairs"]) == KEYS
    inferencer = GroundingInferencer(read_config("mesm_synthetic", small), trained.best)
    place = inferencer.queries.place(3)
    first, third, fourth = expected_lines(small, trained.best, *place)
    second = expected_lines(small, last, *place)[1]
    for key, expected in zip(KEYS, (first, second, third, fourth), strict=True):
        line = record["pairs"][key]
        assert np.allclose(line["similarity"][0], expected, atol=1e-4)
        assert np.allclose(line["mean"], expected, atol=1e-4)
        row = next(row for row in output.out.splitlines() if row.startswith(f"{line['label']}  "))
        assert row.split()[-3:-1] == [f"{expected[0]:.3f}", f"{expected[-1]:.3f}"]
    assert len(fourth) == len(third) + 1
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")
    assert output.out.endswith(f"Plot: {tmp_path / 'x.svg'}\n")


def test_drawn_queries(analyze, tmp_path):
    def drawn(*arguments):
        output = analyze(*arguments, "--json", tmp_path / "x.json")
        assert output.code == 0
        return output, json.loads((tmp_path / "x.json").read_text())

    output, record = drawn("--queries", "5", "--seed", "1")
    qids = [query["qid"] for query in record["queries"]]
    assert len(set(qids)) == 5
    assert output.out.startswith("5 queries, mean and standard deviation")
    assert record["left_out"] == {KEYS[1]: "no model that was trained without masked words was given"}
    assert "left out: F_q, F_v^enh without MLM: no model" in output.out
    line = record["pairs"][KEYS[0]]
    assert line["mean"][0] == pytest.approx(np.mean([values[0] for values in line["similarity"]]))
    assert line["whole_text_mean"] == pytest.approx(np.mean([values[-1] for values in line["similarity"]]))
    assert drawn("--queries", "5", "--seed", "1")[1] == record
    assert [query["qid"] for query in drawn("--queries", "5", "--seed", "2")[1]["queries"]] != qids
    everything = [query["qid"] for query in drawn("--queries", "all")[1]["queries"]]
    assert everything == list(range(len(everything)))


def test_models_without_a_part(command, small, tmp_path):
    from mmengine.registry import MODELS, DefaultScope

    config = read_config("mesm_synthetic", small)
    config.model.aligner.segment_sentence = None
    config.dump(tmp_path / "no_ss.py")
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.save({"state_dict": MODELS.build(config.model).state_dict()}, tmp_path / "no_ss.pth")
    output = command("analyze", "similarity", tmp_path / "no_ss.py", tmp_path / "no_ss.pth", "--query", 0)
    assert output.code == 0
    assert "left out: F_q^enh, F_v^enh: the model has no SS-MESM" in output.out


def test_another_aligner(command, small, tmp_path):
    from mmengine.registry import MODELS, DefaultScope

    config = read_config("mesm_synthetic", small)
    config.model.aligner = {"type": "CrossAttentionAligner"}
    config.dump(tmp_path / "qd_detr.py")
    with DefaultScope.overwrite_default_scope(config.default_scope):
        torch.save({"state_dict": MODELS.build(config.model).state_dict()}, tmp_path / "qd_detr.pth")
    output = command("analyze", "similarity", tmp_path / "qd_detr.py", tmp_path / "qd_detr.pth")
    assert output.code == 2
    assert "aligns with CrossAttentionAligner" in output.err
    assert "give a config with aligner=dict(type='MESMAligner')" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query", "999"], "has no query with the id 999"),
        (["--seed", "-1"], "--seed is -1, expected at least 0"),
        (["--without-mlm", "mesm_synthetic", "none.pth"], "checkpoint none.pth does not exist"),
        (["--without-mlm", "mesm_synthetik", "none.pth"], "did you mean mesm_synthetic"),
        (["--queries", "2", "--plot", "x.txt"], "x.txt: its ending should be one of"),
    ],
)
def test_bad_input(analyze, arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    output = analyze(*arguments)
    assert output.code == 2
    assert message in output.err


@pytest.mark.parametrize("arguments", [["--queries", "0"], ["--queries", "x"], ["--queries", "2", "--query", "1"]])
def test_wrong_arguments(analyze, arguments):
    with pytest.raises(SystemExit):
        analyze(*arguments)
