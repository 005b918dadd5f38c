# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The commands of docs/data.md that pack QVHighlights' published features."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from mesm_plugin.cli.main import main
from mesm_plugin.datasets import HDF5FeatureStore, PreExtractedText

DOCS = Path(__file__).parents[2] / "docs"


def test_published_layout_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESM_DATA", raising=False)
    annotations = Path("data/qvhighlights/annotations")
    annotations.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for qid, split in enumerate(("train", "val", "test")):
        vid = f"source{qid}_60.0_78.0"
        record = {"qid": qid, "query": "a door", "duration": 18, "vid": vid}
        if split != "test":
            record |= {"relevant_windows": [[0, 2]], "relevant_clip_ids": [0], "saliency_scores": [[1, 2, 3]]}
        (annotations / f"highlight_{split}_release.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
        for folder, name, key, dims in (
            ("clip_features", vid, "features", 512),
            ("slowfast_features", vid, "features", 2304),
            ("clip_text_features", f"qid{qid}", "last_hidden_state", 512),
        ):
            Path("features", folder).mkdir(parents=True, exist_ok=True)
            values = rng.standard_normal((9, dims), dtype=np.float32)
            np.savez(Path("features", folder, f"{name}.npz"), **{key: values, "pooler_output": values[0]})

    lines = (DOCS / "data.md").read_text(encoding="utf-8").splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("mesm convert-features")]
    assert [main(command) for command in commands] == [0, 0, 0]

    folder = Path("data/qvhighlights")
    store = HDF5FeatureStore([folder / "slowfast.hdf5", folder / "clip_image.hdf5"], dims=[2304, 512])
    features = store["source2_60.0_78.0"]
    assert features.shape == (9, 2816)
    np.testing.assert_allclose(np.linalg.norm(features[:, 2304:], axis=1), 1, atol=1e-5)
    words = PreExtractedText(str(folder / "clip_text.hdf5"), normalize=False).encode("a door", 1)["words"]
    stored = np.load("features/clip_text_features/qid1.npz")["last_hidden_state"]
    assert np.array_equal(words.numpy(), stored)
