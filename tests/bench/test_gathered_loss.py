# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import pytest

from bench.gathered_loss import bytes_sent, estimate, measure


def test_bytes_of_a_ring() -> None:
    # Rows of two vectors of four numbers, two ends and a source; the gradients of the vectors come back.
    assert bytes_sent(ranks=3, queries=5, dims=4) == 2 * 5 * ((32 + 8 + 8) + 32)


def test_estimate() -> None:
    found = estimate(ranks=4, queries=10, dims=8, bandwidth=1e6, latency=1e-3, flops=1e6)
    assert found.queries == 40
    assert found.gflops == pytest.approx(4 * 2 * 40 * 40 * 8 / 1e9)
    assert found.logits_mb == pytest.approx(4 * 1600 / 1e6)
    assert found.network_ms == pytest.approx(found.bytes / 1e3 + 6)
    assert found.compute_ms == pytest.approx(found.gflops * 1e9 / 1e6 * 1e3)


def test_two_processes() -> None:
    row = measure(ranks=2, queries=3, dims=8, rounds=1)
    assert row["queries"] == 6
    assert row["gathered"] > 0
    assert row["own"] > 0
