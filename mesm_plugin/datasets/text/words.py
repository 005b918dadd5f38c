# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Words of a sentence, and how likely each is masked."""

import string

import numpy as np

_PUNCTUATION_TO_BLANK = str.maketrans(string.punctuation, " " * len(string.punctuation))

# Words that carry grammar rather than content: articles, pronouns, prepositions, conjunctions, auxiliaries.
_STOP_WORDS = """
a an the this that these those some any each every no all both either neither another other such
i me my mine myself you your yours yourself yourselves we us our ours ourselves
he him his himself she her hers herself it its itself they them their theirs themselves
who whom whose which what someone something anyone anything one ones
about above across after against along among around as at before behind below beneath beside between beyond by
down during for from in inside into near of off on onto out outside over past since through throughout to toward
towards under until up upon via with within without
and but or nor so yet if because while when where than then though although there here
am is are was were be been being do does did doing have has had having
can could may might must shall should will would not t s
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

WEIGHTINGS = ("uniform", "content_words")


def split_words(sentence: str) -> list[str]:
    """Words of a sentence as the released code splits it: lower case, punctuation turned to blanks, split on blanks."""
    return sentence.lower().translate(_PUNCTUATION_TO_BLANK).split()


def word_weights(words: list[str], weighting: str) -> np.ndarray:
    """Weight of each word when words are drawn for masking.

    "uniform" is the paper's: 1 each. "content_words" gives content words 2 and others 1. The released code gives 2 to
    what a part-of-speech tagger calls noun, verb, adjective or adverb; a list of stop words stands in for the tagger.

    Returns:
        (Lw,) float32.
    """
    if weighting == "uniform":
        return np.ones(len(words), dtype=np.float32)
    return np.array([1 if word in STOP_WORDS else 2 for word in words], dtype=np.float32)
