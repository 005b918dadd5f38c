# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from mesm_plugin.datasets.synthetic_script import (
    OBJECTS,
    OBJECTS_OF_VERB,
    VERBS,
    WORDS,
    Script,
    parse_video_id,
    video_id,
    write_script,
)
from mesm_plugin.datasets.text.words import split_words


@pytest.fixture(scope="module")
def scripts() -> list[Script]:
    return [write_script(0, "train", index) for index in range(300)]


def test_scripts_depend_on_seed_split_and_index_only() -> None:
    script = write_script(3, "val", 7)
    assert script == write_script(3, "val", 7)
    assert script.vid == "synthetic_val_00007"
    others = [write_script(4, "val", 7), write_script(3, "val", 8), write_script(3, "test", 7)]
    assert all(other.events != script.events for other in others)


def test_video_ids() -> None:
    assert video_id("train", 12) == "synthetic_train_00012"
    assert parse_video_id("synthetic_train_00012") == ("train", 12)
    assert parse_video_id(video_id("test", 1234567)) == ("test", 1234567)
    assert [parse_video_id(vid) for vid in ("AO8RW", "synthetic_dev_00001", "synthetic_train_1x")] == [None] * 3


def test_grammar_has_a_small_vocabulary() -> None:
    assert len(WORDS) == len(set(WORDS)) == 73
    assert all(split_words(word) == [word] for word in WORDS)
    assert set(OBJECTS_OF_VERB) == set(VERBS)


def test_sentences_are_made_of_the_vocabulary_and_name_their_event(scripts: list[Script]) -> None:
    for script in scripts:
        for sentence, event in script.queries:
            words = split_words(sentence)
            assert set(words) <= set(WORDS)
            assert {event.subject, event.verb, event.object} <= set(words)
            assert set(words) - set(event.words) <= {"the", "a", "an", "in"}
            assert event in script.events
            assert not set(itertools.pairwise(words)) & {("a", "old"), ("a", "apple"), ("an", "red")}


def test_verb_and_object_mean_one_event(scripts: list[Script]) -> None:
    for script in scripts:
        assert len({event.verb for event in script.events}) == len(script.events)
        assert len({event.object for event in script.events}) == len(script.events)
        assert all(event.object in OBJECTS_OF_VERB[event.verb] for event in script.events)
    assert {event.verb for script in scripts for event in script.events} == set(VERBS)
    assert {event.object for script in scripts for event in script.events} == set(OBJECTS)


def test_videos_are_ragged(scripts: list[Script]) -> None:
    durations = np.array([script.duration for script in scripts])
    assert durations.min() >= 24
    assert durations.max() <= 60
    assert durations.std() > 8
    assert {len(script.events) for script in scripts} == {3, 4, 5}
    assert {len(script.queries) for script in scripts} == {2, 3, 4, 5}
    lengths = {len(split_words(sentence)) for script in scripts for sentence, _ in script.queries}
    assert lengths == {5, 6, 7, 8, 9, 10}


def test_moments_lie_in_the_video_and_differ_in_length(scripts: list[Script]) -> None:
    lengths = []
    for script in scripts:
        for event in script.events:
            assert 0 <= event.start < event.end <= script.duration
            lengths.append(event.end - event.start)
    assert min(lengths) >= 2.8
    assert np.quantile(lengths, 0.1) < 5
    assert np.quantile(lengths, 0.9) > 15


def test_at_most_two_events_at_once_and_often_two(scripts: list[Script]) -> None:
    overlapping = 0
    for script in scripts:
        times = np.arange(0, script.duration, 0.05)
        at_once = sum((event.start < times) & (times < event.end) for event in script.events)
        assert at_once.max() <= 2
        overlapping += at_once.max() == 2
    assert overlapping > 0.5 * len(scripts)


def test_queries_are_ordered_and_some_events_have_several_or_none(scripts: list[Script]) -> None:
    several = none = 0
    for script in scripts:
        starts = [event.start for _, event in script.queries]
        assert starts == sorted(starts)
        asked = [event for _, event in script.queries]
        several += len(set(asked)) < len(asked)
        none += len(set(asked)) < len(script.events)
    assert several > 30
    assert none > 30
