# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

# Triton reads this when it is first imported, which importing torch does not do yet.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Timing belongs to benchmarks, and a failure must be the same one when it is run again.
settings.register_profile("mesm_plugin", deadline=None, derandomize=True)
settings.load_profile("mesm_plugin")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the records of checked arrays out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real annotations and golden numbers, outside the repository."""
    folder = Path(os.environ.get("MESM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}; set MESM_SHARED to the folder with data/ and golden/")
    return folder


def random_items(
    clips: list[int],
    queries: list[int],
    video_dims: int = 10,
    text_dims: int = 8,
    classes: int = 21,
    sources: list[str] | None = None,
    moments_a_query: int = 1,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Items of a data set with random features: clips[i] clips and queries[i] queries for video i."""
    from mesm_plugin.structures import GroundingDataSample

    rng = np.random.default_rng(seed)
    items = []
    for i, (length, count) in enumerate(zip(clips, queries, strict=True)):
        duration = float(length)
        item_queries, gt_moments = [], []
        for _ in range(count):
            words = int(rng.integers(2, 7))
            starts = np.sort(rng.choice(length, moments_a_query, replace=False))
            ends = np.minimum(starts + rng.integers(1, 6, moments_a_query), length)
            inside = np.zeros(length, dtype=bool)
            for start, end in zip(starts, ends, strict=True):
                inside[start:end] = True
            seconds = np.stack((starts, ends), axis=1).astype(np.float64)
            gt_moments.append(seconds)
            labels = rng.integers(0, classes, words)
            item_queries.append(
                {
                    "words": torch.from_numpy(rng.standard_normal((words, text_dims), dtype=np.float32)),
                    "words_weight": torch.ones(words),
                    "words_label": torch.from_numpy(labels),
                    "unknown_words": torch.from_numpy(labels == classes - 1),
                    "moments": torch.from_numpy((seconds / duration).astype(np.float32)),
                    "segment_mask": torch.from_numpy(inside),
                    "saliency": torch.from_numpy(inside.astype(np.float32)),
                }
            )
        source = sources[i] if sources else f"v{i}"
        metainfo = {
            "vid": f"v{i}",
            "source": source,
            "duration": duration,
            "num_clips": length,
            "qids": [f"{i}-{k}" for k in range(count)],
            "sentences": [f"sentence {k}" for k in range(count)],
            "gt_moments": gt_moments,
        }
        items.append(
            {
                "sample_idx": i,
                "source": source,
                "video": torch.from_numpy(rng.standard_normal((length, video_dims), dtype=np.float32)),
                "queries": item_queries,
                "data_sample": GroundingDataSample(metainfo=metainfo),
            }
        )
    return items


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    """Makes a collated batch of random videos; arguments as `random_items`, and `training`."""
    from mesm_plugin.datasets import collate_grounding

    def make(clips: list[int], queries: list[int], *, training: bool = True, **options: Any) -> dict[str, Any]:
        return collate_grounding(random_items(clips, queries, **options), training=training)

    return make


@pytest.fixture
def grounder_config() -> dict[str, Any]:
    """A small MESM in the released code's form, without dropout."""
    return {
        "type": "DETRGrounder",
        "video_dims": 10,
        "text_dims": 8,
        "dims": 32,
        "heads": 4,
        "ffn_dims": 48,
        "dropout": 0.0,
        "projection_dropout": 0.0,
        "aligner": {
            "type": "MESMAligner",
            "frame_word": {
                "update": "add_norm_ffn",
                "use_position": True,
                "num_word_classes": 21,
                "masked_word_clips": "moment",
                "token_dims": 8,
                "word_head": "projection",
                "word_head_dropout": 0.0,
            },
            "segment_sentence": {"normalize": True, "num_layers": 2},
            "contrastive_loss": {"similarity": "cosine"},
        },
        "encoder": {"type": "GlobalTokenEncoder"},
        "decoder": {"type": "DABDecoder", "num_queries": 6},
        "saliency_head": {"type": "GlobalTokenSaliencyHead"},
        "matcher": {"type": "MomentMatcher"},
        "span_loss": {"type": "SpanL1Loss"},
        "giou_loss": {"type": "SpanGIoULoss"},
        "label_loss": {"type": "LabelLoss"},
        "saliency_losses": [{"type": "RankContrastiveLoss"}, {"type": "NegativePairLoss"}],
        "post_process": {},
    }


@pytest.fixture
def interpreter() -> torch.device:
    """The device of kernels that Triton interprets."""
    from mesm_plugin.kernels.backend import TRITON_IS_INSTALLED, interpreting

    if not TRITON_IS_INSTALLED:
        pytest.skip("the package triton is not installed")
    if not interpreting():
        pytest.skip("Triton compiles kernels here; TRITON_INTERPRET=1 in the environment makes it interpret them")
    return torch.device("cpu")
