# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Text encoders: word features of a sentence."""

from mesm_plugin.datasets.text.clip_text import CLIPText
from mesm_plugin.datasets.text.encoder import TextEncoder
from mesm_plugin.datasets.text.glove import GloVeText
from mesm_plugin.datasets.text.pre_extracted import PreExtractedText
from mesm_plugin.datasets.text.synthetic_text import SyntheticText
from mesm_plugin.datasets.text.vocabulary import Vocabulary
from mesm_plugin.datasets.text.words import split_words, word_weights

__all__ = [
    "CLIPText",
    "GloVeText",
    "PreExtractedText",
    "SyntheticText",
    "TextEncoder",
    "Vocabulary",
    "split_words",
    "word_weights",
]
