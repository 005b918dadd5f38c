# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The MMEngine metric of highlight detection."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mesm_plugin.evaluation.scores import highlight_scores
from mesm_plugin.evaluation.submission import rounded
from mesm_plugin.registry import METRICS


@METRICS.register_module()
class HighlightDetectionMetric(BaseMetric):
    """mAP and HIT@1 of clip scores, in percent with two decimals.

    The keys are `highlights/Fair/mAP` and `highlights/Fair/HIT@1`, and the same for `Good` and `VeryGood`: clips count
    as highlights that an annotator graded 2, 3 or 4 at least. Predictions are scored as they stand in a submission
    file, with 4 decimals, so scoring that file gives the same numbers. A split without labels is not scored.

    Every `GroundingDataSample` becomes one entry of `results`, since MMEngine cuts the gathered results to the number
    of samples.

    Args:
        clip_length: Seconds of a graded clip.
        collect_device: "cpu" or "gpu", where the results of several processes are gathered.
        prefix: Put before every key, with a slash between.
        collect_dir: Folder for gathering on the CPU.

    Raises:
        ValueError: In `process` a sample has no predicted clip scores, or moments whose clips are not graded; in
            `evaluate` see `evaluate_highlight_detection`.
    """

    default_prefix = "highlights"

    def __init__(
        self,
        clip_length: float = 2.0,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if not clip_length > 0:
            raise ValueError(f"clip_length is {clip_length}, expected seconds > 0")
        self.clip_length = clip_length

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Appends one entry a video: the records of its queries, predicted and true."""
        self.results.extend(map(_entry_of, data_samples))

    def compute_metrics(self, results: list[dict[str, list[dict]]]) -> dict[str, float]:
        """Scores the records of all videos."""
        if not results:
            raise ValueError("no data sample was evaluated; is the data set of this evaluator empty?")
        ground_truth = [record for entry in results for record in entry["ground_truth"]]
        if not ground_truth:
            message = "the data set has no graded clips, so highlights were not scored"
            print_log(message, logger="current", level=logging.WARNING)
            return {}
        predictions = [record for entry in results for record in entry["predictions"]]
        return highlight_scores(predictions, ground_truth, self.clip_length)


def _entry_of(sample: dict) -> dict[str, list[dict]]:
    """Turns one data sample, as the evaluator hands it over, into the records of its queries."""
    vid, qids = sample["vid"], sample["qids"]
    saliency, clips, grades = (sample.get(key) for key in ("pred_saliency", "gt_clips", "gt_grades"))
    if saliency is None:
        raise ValueError(f"video {vid!r} has no pred_saliency; expected the data samples that mode='predict' returns")
    if len(saliency) != len(qids):
        raise ValueError(f"video {vid!r} has {len(saliency)} pred_saliency for {len(qids)} queries")
    if grades is None and sample.get("gt_moments") is not None:
        raise ValueError(
            f"video {vid!r} has gt_moments and no gt_grades; HighlightDetectionMetric needs a data set with graded "
            "clips, such as QVHighlightsDataset"
        )
    predictions = [
        {"qid": qid, "pred_saliency_scores": rounded(scores)} for qid, scores in zip(qids, saliency, strict=True)
    ]
    if grades is None or clips is None:
        return {"predictions": predictions, "ground_truth": []}
    ground_truth = [
        {"qid": qid, "duration": sample["duration"], "relevant_clip_ids": clips[i], "saliency_scores": grades[i]}
        for i, qid in enumerate(qids)
    ]
    return {"predictions": predictions, "ground_truth": ground_truth}
