# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from bench.workloads import WORKLOADS


@pytest.mark.parametrize(
    ("name", "videos", "queries", "clips", "dims"),
    [
        ("charades-clip-slowfast", 12, 31, (20, 40), (2818, 512)),
        ("charades-vgg-glove", 12, 31, (120, 240), (4098, 300)),
        ("tacos-c3d-glove", 3, 30, (300, 600), (4098, 300)),
    ],
)
def test_sizes(name: str, videos: int, queries: int, clips: tuple[int, int], dims: tuple[int, int]) -> None:
    inputs = WORKLOADS[name].batch(training=True)["inputs"]
    assert inputs["video"].shape[0] == videos
    assert (inputs["video"].shape[2], inputs["words"].shape[2]) == dims
    assert len(inputs["words"]) == queries
    assert len(inputs["pair_video"]) == 2 * queries
    lengths = inputs["video_mask"].sum(dim=1)
    assert lengths.min() >= clips[0]
    assert lengths.max() <= clips[1]
    assert inputs["words_mask"].sum(dim=1).min() >= 5
    assert inputs["segment_mask"].sum(dim=1).max() <= 12
    config = WORKLOADS[name].model_config()
    assert (config.video_dims, config.text_dims) == dims
