# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest

from mesm_plugin.browsing.dataset_figure import draw_dataset


def _video(number: int, **labels: Any) -> dict[str, Any]:
    query = {"qid": number, "sentence": "person opens the door " * (1 + number % 2), **labels}
    return {"vid": f"v{number}", "source": f"v{number}", "duration": 20.0 + number, "queries": [query]}


def _panels(splits: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in draw_dataset("Data", splits).axes}


def test_panels_of_labelled_splits() -> None:
    train = [_video(number, moments=[[0.0, 10.0]]) for number in range(4)]
    panels = _panels({"train": train, "test": [_video(9)]})
    assert list(panels) == [
        "duration of a video, s",
        "queries of a video",
        "words of a sentence",
        "content words, train",
        "length of a moment, s",
        "length of a moment / duration",
        "start and end, train",
    ]
    words = panels["content words, train"]
    assert [label.get_text() for label in words.get_yticklabels()] == ["person", "opens", "door"]
    assert [bar.get_width() for bar in words.patches] == [6, 6, 6]
    (mesh,) = panels["start and end, train"].collections
    density = np.asarray(mesh.get_array()).reshape(25, 25)
    assert density[:, 1:].sum() == 0
    assert (density[:, 0] ** 2).sum() == pytest.approx(4)
    lengths = panels["length of a moment, s"].patches
    assert [np.nansum(stairs.get_data().values) for stairs in lengths] == pytest.approx([100, 100])


def test_panels_of_several_graded_moments() -> None:
    labels = {"moments": [[0.0, 4.0], [6.0, 8.0]], "grades": [[4, 4, 3], [0, 0, 1], [2, 2, 2]]}
    panels = _panels({"val": [_video(1, **labels)]})
    sums = panels["sum of a clip's grades"].patches[0].get_data()
    assert dict(zip(((sums.edges[:-1] + sums.edges[1:]) / 2).tolist(), sums.values, strict=True)) == pytest.approx(
        {1: 100 / 3, 2: 0, 3: 0, 4: 0, 5: 0, 6: 100 / 3, 7: 0, 8: 0, 9: 0, 10: 0, 11: 100 / 3}
    )
    counts = panels["moments of a query"].patches[0].get_data()
    assert counts.values.tolist() == [100]


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="there is no split to draw"):
        draw_dataset("Data", {})
