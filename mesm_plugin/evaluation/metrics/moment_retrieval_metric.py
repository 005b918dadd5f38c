# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The MMEngine metric of moment retrieval."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mesm_plugin.evaluation.functional.moment_retrieval import (
    LENGTH_RANGES,
    checked_length_ranges,
    checked_thresholds,
)
from mesm_plugin.evaluation.scores import moment_scores
from mesm_plugin.evaluation.submission import rounded, write_submission
from mesm_plugin.registry import METRICS


@METRICS.register_module()
class MomentRetrievalMetric(BaseMetric):
    """R1@IoU, R5@IoU, mIoU and mAP of moment retrieval, overall and by moment length, in percent with two decimals.

    The keys are `R1@0.5`, `mIoU`, `R5@0.5`, `mAP@0.5` and `mAP` (the average over 0.5:0.05:0.95), and the same for each
    length range as `short/R1@0.5` and so on. A range that holds no moment has no keys. Predictions are scored as they
    stand in a submission file, with 4 decimals, so scoring that file gives the same numbers.

    Every `GroundingDataSample` becomes one entry of `results`, since MMEngine cuts the gathered results to the
    number of samples.

    Args:
        r1_thresholds: IoU thresholds of R1.
        r5_thresholds: IoU thresholds of R5: whether any of the first five windows hits.
        map_thresholds: IoU thresholds at which mAP is reported besides the average.
        length_ranges: Name -> (min, max] in seconds. An empty dict reports the overall numbers only.
        by_split: Scores each split of a data set of several apart, with keys such as `novel_word/R1@0.5` and
            `novel_word/short/R1@0.5`.
        output_file: Where to write the submission, one JSON line a query. With it a data set without moments is
            accepted, which is then written and not scored.
        collect_device: "cpu" or "gpu", where the results of several processes are gathered.
        prefix: Put before every key, with a slash between.
        collect_dir: Folder for gathering on the CPU.

    Raises:
        ValueError: A threshold or a length range is out of range; in `process` a sample has no predictions, or no
            moments and there is no `output_file`, or no split and `by_split` is set; in `evaluate` see
            `evaluate_moment_retrieval`.
    """

    default_prefix = ""

    def __init__(
        self,
        r1_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
        r5_thresholds: Sequence[float] = (),
        map_thresholds: Sequence[float] = (0.5, 0.75),
        length_ranges: Mapping[str, Sequence[float]] = LENGTH_RANGES,
        by_split: bool = False,
        output_file: str | os.PathLike[str] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.r1_thresholds = checked_thresholds("r1_thresholds", r1_thresholds)
        self.r5_thresholds = checked_thresholds("r5_thresholds", r5_thresholds)
        self.map_thresholds = checked_thresholds("map_thresholds", map_thresholds)
        self.length_ranges = checked_length_ranges(length_ranges)
        self.by_split = by_split
        self.output_file = output_file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Appends one entry a video: the records of its queries, predicted and true."""
        self.results.extend(self._entry_of(sample) for sample in data_samples)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Writes the submission, so that a failure to score does not lose it, and scores the records of all videos."""
        if not results:
            raise ValueError("no data sample was evaluated; is the data set of this evaluator empty?")
        predictions = [record for entry in results for record in entry["predictions"]]
        ground_truth = [record for entry in results for record in entry["ground_truth"]]
        if self.output_file is not None:
            write_submission(predictions, self.output_file)
            if not ground_truth:
                message = f"wrote {self.output_file}; the data set has no moments, so nothing was scored"
                print_log(message, logger="current", level=logging.WARNING)
                return {}
        if not self.by_split:
            return self._score(predictions, ground_truth, "")
        metrics: dict[str, float] = {}
        for split in dict.fromkeys(entry["split"] for entry in results):
            chosen = [entry for entry in results if entry["split"] == split]
            predictions = [record for entry in chosen for record in entry["predictions"]]
            ground_truth = [record for entry in chosen for record in entry["ground_truth"]]
            metrics.update(self._score(predictions, ground_truth, f"{split}/"))
        return metrics

    def _score(self, predictions: list[dict], ground_truth: list[dict], prefix: str) -> dict[str, float]:
        scores = moment_scores(
            predictions,
            ground_truth,
            r1_thresholds=self.r1_thresholds,
            r5_thresholds=self.r5_thresholds,
            map_thresholds=self.map_thresholds,
            length_ranges=self.length_ranges,
        )
        return {prefix + name: value for name, value in scores.items()}

    def _entry_of(self, sample: dict) -> dict[str, Any]:
        """Turns one data sample, as the evaluator hands it over, into the records of its queries."""
        vid, qids = sample["vid"], sample["qids"]
        windows, saliency, moments = (
            _per_query(sample, key) for key in ("pred_moments", "pred_saliency", "gt_moments")
        )
        if windows is None:
            raise ValueError(
                f"video {vid!r} has no pred_moments; expected the data samples that mode='predict' returns"
            )
        if moments is None and self.output_file is None:
            raise ValueError(
                f"video {vid!r} has no gt_moments, so R1, mIoU and mAP cannot be computed; "
                "use a labelled split, or set output_file to write the predictions without scoring them"
            )
        split = sample.get("split")
        if self.by_split and split is None:
            raise ValueError(f"video {vid!r} names no split, so by_split cannot score it; set by_split=False")
        predictions = [
            {"qid": qid, "query": sentence, "vid": vid, "pred_relevant_windows": rounded(rows)}
            for qid, sentence, rows in zip(qids, sample["sentences"], windows, strict=True)
        ]
        if saliency is not None and self.output_file is not None:
            for record, scores in zip(predictions, saliency, strict=True):
                record["pred_saliency_scores"] = rounded(scores)
        ground_truth = []
        if moments is not None:
            ground_truth = [{"qid": qid, "relevant_windows": rows} for qid, rows in zip(qids, moments, strict=True)]
        return {"split": split, "predictions": predictions, "ground_truth": ground_truth}


def _per_query(sample: dict, key: str) -> list | None:
    """Returns what a sample holds under `key`, one element a query, or None where it has no such field."""
    values = sample.get(key)
    if values is not None and len(values) != len(sample["qids"]):
        raise ValueError(f"video {sample['vid']!r} has {len(values)} {key} for {len(sample['qids'])} queries")
    return values
