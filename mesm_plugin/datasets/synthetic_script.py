# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What happens in a synthetic video, and the sentences that describe it."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

SUBJECTS = ("person", "woman", "man", "girl", "boy", "chef", "child", "teacher")
ADVERBS = ("slowly", "quickly", "quietly", "carefully", "happily", "suddenly")
COLOURS = ("red", "blue", "green", "small", "large", "old")
PLACES = ("kitchen", "garden", "hallway", "bedroom", "garage", "office")
ARTICLES = ("the", "a", "an")
OBJECTS_OF_VERB = {
    "opens": ("door", "window", "box", "bag", "bottle", "book"),
    "closes": ("door", "window", "box", "bag", "laptop"),
    "washes": ("cup", "plate", "apple", "towel", "window"),
    "holds": ("cup", "phone", "pillow", "broom", "camera", "letter"),
    "throws": ("pillow", "towel", "shoe", "ball", "bag"),
    "eats": ("apple", "sandwich", "cookie"),
    "reads": ("book", "letter", "newspaper"),
    "folds": ("towel", "blanket", "newspaper", "shirt"),
    "lifts": ("chair", "box", "ball", "laptop"),
    "drops": ("cup", "phone", "shoe", "cookie", "plate"),
    "cleans": ("table", "mirror", "chair", "shoe"),
    "paints": ("chair", "table", "door", "picture"),
    "carries": ("blanket", "laptop", "broom", "picture", "bottle"),
    "fixes": ("camera", "mirror", "chair", "phone"),
    "wears": ("shirt", "shoe", "hat"),
}
VERBS = tuple(OBJECTS_OF_VERB)
OBJECTS = tuple(dict.fromkeys(name for names in OBJECTS_OF_VERB.values() for name in names))
# About the most frequent first.
WORDS = (*ARTICLES, "in", *SUBJECTS, *ADVERBS, *COLOURS, *PLACES, *VERBS, *OBJECTS)

SPLITS = ("train", "val", "test")
_EVENTS = (3, 5)
_QUERIES = (2, 5)
_DURATION = (24.0, 60.0)
_SHORTEST_EVENT = 3.0
_EVENT_SHARE = (0.08, 0.5)
_MOST_AT_ONCE = 2


@dataclass(frozen=True)
class Event:
    """Something that happens from `start` to `end` seconds; `words` are the content words that describe it in full."""

    start: float
    end: float
    subject: str
    adverb: str
    verb: str
    colour: str
    object: str
    place: str

    @property
    def words(self) -> tuple[str, ...]:
        return (self.subject, self.adverb, self.verb, self.colour, self.object, self.place)


@dataclass(frozen=True)
class Script:
    """A video's events, and which of them its queries (sentence, event) ask for, ordered by start."""

    vid: str
    duration: float
    events: tuple[Event, ...]
    queries: tuple[tuple[str, Event], ...]


def video_id(split: str, index: int) -> str:
    """Id of a synthetic video."""
    return f"synthetic_{split}_{index:05d}"


def parse_video_id(vid: str) -> tuple[str, int] | None:
    """Split and number of a synthetic video; None if `vid` is not the id of one."""
    match = re.fullmatch(rf"synthetic_({'|'.join(SPLITS)})_(\d{{5,}})", vid)
    return (match[1], int(match[2])) if match else None


def write_script(seed: int, split: str, index: int) -> Script:
    """Draws the script of a video; the same arguments always give the same one.

    The events of a video differ in verb and object, so that a sentence, which always names both, means one of them.
    Events may overlap, two at a time; some are asked for by two sentences and some by none.

    Args:
        seed: Of the data set.
        split: "train", "val" or "test"; no two splits share a draw.
        index: Number of the video in its split.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    duration = round(float(rng.uniform(*_DURATION)), 1)
    events: list[Event] = []
    for _ in range(rng.integers(_EVENTS[0], _EVENTS[1] + 1)):
        events.append(_draw_event(events, duration, rng))
    asked = rng.permutation(len(events)).tolist()
    count = int(rng.integers(_QUERIES[0], _QUERIES[1] + 1))
    asked = (asked + rng.integers(len(events), size=count).tolist())[:count]
    queries = sorted(((_describe(events[i], rng), events[i]) for i in asked), key=lambda query: query[1].start)
    return Script(video_id(split, index), duration, tuple(events), tuple(queries))


def _draw_event(others: list[Event], duration: float, rng: np.random.Generator) -> Event:
    verbs = [verb for verb in VERBS if verb not in {event.verb for event in others}]
    while True:
        verb = _choose(verbs, rng)
        thing = _choose(OBJECTS_OF_VERB[verb], rng)
        if thing not in {event.object for event in others}:
            break
    while True:
        share = np.exp(rng.uniform(*np.log(_EVENT_SHARE)))
        length = max(_SHORTEST_EVENT, float(share) * duration)
        start = round(float(rng.uniform(0, duration - length)), 1)
        end = round(min(start + length, duration), 1)
        # Coverage is largest where some event starts.
        starts = [start, *(event.start for event in others if start <= event.start < end)]
        at_once = max(sum(event.start <= time < event.end for event in others) for time in starts)
        if at_once < _MOST_AT_ONCE:
            break
    subject, adverb, colour, place = (_choose(words, rng) for words in (SUBJECTS, ADVERBS, COLOURS, PLACES))
    return Event(start, end, subject, adverb, verb, colour, thing, place)


def _describe(event: Event, rng: np.random.Generator) -> str:
    """A sentence that names subject, verb and object, and each of adverb, colour and place every other time."""
    says_adverb, says_colour, says_place = (rng.random(3) < 0.5).tolist()
    words = [*_noun_phrase([event.subject], rng), *[event.adverb] * says_adverb, event.verb]
    words += _noun_phrase([event.colour] * says_colour + [event.object], rng)
    words += ["in", "the", event.place] * says_place
    return " ".join(words) + "."


def _noun_phrase(words: list[str], rng: np.random.Generator) -> list[str]:
    indefinite = "an" if words[0][0] in "aeiou" else "a"
    return [_choose(("the", indefinite), rng), *words]


def _choose(words: Any, rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
