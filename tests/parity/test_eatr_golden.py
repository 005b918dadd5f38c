# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""EaTR gives the same outputs, losses and gradients as Lighthouse's code.

Where a batch has an odd number of items, the peer's item in the middle has an event too many, which reaches from the
last boundary of the batch to the first. Ours has not; the losses are compared given the peer's events.
"""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mesm_plugin.converters import EATR
from mesm_plugin.models.grounders import EaTR, GrounderOutput
from mesm_plugin.models.grounders.eatr import pseudo_events
from mesm_plugin.structures import cxw_to_xx

sys.path.append(str(Path(__file__).parent))
from golden_peer import (
    assert_close,
    build_batch,
    compare,
    each_perturbation,
    golden_files,
    grounder_outputs,
    load,
    perturbed,
)

FILES = golden_files("eatr")


needs_files = pytest.mark.skipif(not FILES, reason="no eatr*.pt; set MESM_GOLDEN to their folder")


def peer_events(golden: dict[str, Any]) -> list[Tensor]:
    """Start and end of the events of each item (n, 2), the one too many included."""
    return [cxw_to_xx(spans) for spans in golden["outputs"]["pseudo_event_spans"]]


def outputs(output: GrounderOutput, auxiliary: bool) -> dict[str, Tensor]:
    return {**grounder_outputs(output, auxiliary), "pred_event_spans": output.extra["event_spans"]}


def compare_given_events(golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    events = peer_events(golden)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(e), dtype=torch.bool) for e in events], batch_first=True)
    padded = torch.nn.utils.rnn.pad_sequence(events, batch_first=True)
    monkeypatch.setattr(EaTR, "events_of", lambda *_: (padded, mask))
    compare(golden, EATR, outputs)


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = load(file)
    if len(golden["inputs"]["src_vid"]) % 2:
        compare_given_events(golden, monkeypatch)
    else:
        compare(golden, EATR, outputs)


@needs_files
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_events(file: Path) -> None:
    golden = load(file)
    batch = build_batch(golden)
    events, mask = pseudo_events(batch["video"], batch["video_mask"], count_padding=True)
    expected = peer_events(golden)
    surplus = len(expected) // 2 if len(expected) % 2 else None
    for i, theirs in enumerate(expected):
        if i == surplus:
            assert theirs[0, 1] <= theirs[0, 0]
            theirs = theirs[1:]
        assert_close(f"events of item {i}", events[i][mask[i]], theirs, 1e-6)


@needs_files
@each_perturbation
def test_a_perturbed_file_fails(kind: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError, match=message):
        compare_given_events(perturbed(load(FILES[0]), kind), monkeypatch)
