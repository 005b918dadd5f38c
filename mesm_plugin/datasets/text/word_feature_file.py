# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Writes word features for `PreExtractedText`."""

from collections.abc import Mapping
from pathlib import Path

from mesm_plugin.datasets.text.clip_text import CLIPText
from mesm_plugin.utils.atomic_file import atomic_file


def write_word_features(text: CLIPText, queries: Mapping[str, str], file: str | Path) -> int:
    """Encodes sentences and writes one data set for each query id, with the attribute `token_ids`.

    Args:
        text: The encoder; it should not normalise, which `PreExtractedText` does.
        queries: Sentence of each query id.
        file: HDF5 file, which appears when it is complete.

    Returns:
        How many tokens were written.

    Raises:
        ValueError: A sentence cannot be encoded; the message names the query.
    """
    import h5py

    for qid, sentence in queries.items():
        # Encoding them all takes minutes, so that errors come first.
        text.tokenize(sentence, qid)
    text.prepare([(sentence, qid) for qid, sentence in queries.items()])
    count = 0
    with atomic_file(file) as unfinished, h5py.File(unfinished, "w") as features:
        features.attrs["weights"] = text.file
        features.attrs["max_words"] = text.max_words
        for qid, sentence in queries.items():
            words = text.encode(sentence, qid)["words"].numpy()
            features[qid] = words
            features[qid].attrs["token_ids"] = text.tokenize(sentence, qid)
            count += len(words)
    return count
