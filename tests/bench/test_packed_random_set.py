# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np

from bench.packed_random_set import RandomFeatures, write_annotations, write_features
from mesm_plugin.registry import DATASETS


def test_items_have_the_sizes_asked_for(tmp_path: Path) -> None:
    write_annotations(tmp_path, videos=5, clips=(4, 6), queries=3)
    vocabulary = tmp_path / "CLIP_tokenized_count.txt"
    vocabulary.write_text("".join(f"{token} {2000 - token}\n" for token in range(10, 1200)))
    dataset = DATASETS.build(write_features(tmp_path, tmp_path, (3, 5), 4, vocabulary))
    assert len(dataset) == 5
    for index in range(5):
        item = dataset[index]
        assert 4 <= len(item["video"]) <= 6
        assert len(item["video"]) == dataset.get_data_info(index)["duration"]
        assert item["video"].shape[1] == 3 + 5 + 2
        assert len(item["queries"]) == 3
        for query, sentence in zip(item["queries"], item["data_sample"].sentences, strict=True):
            assert query["words"].shape == (len(sentence.split()) + 2, 4)
            assert query["words_weight"].tolist() == [0, *[1] * len(sentence.split()), 0]
    assert not list(tmp_path.glob("*.parts"))


def test_random_matrices() -> None:
    features = RandomFeatures()
    for rows, channels in ((3, 4), (2**11, 2**12)):
        matrix = features.matrix(rows, channels)
        assert matrix.shape == (rows, channels)
        assert matrix.dtype == np.float32
    assert abs(float(matrix.mean())) < 0.01
    assert abs(float(matrix.std()) - 1) < 0.01
    assert not np.array_equal(features.matrix(1, 4), features.matrix(1, 4))
