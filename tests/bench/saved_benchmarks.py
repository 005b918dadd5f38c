# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What pytest-benchmark saves, as far as it is read."""

import json
from collections.abc import Sequence

from bench.kernel_results import Result

ENVIRONMENT: dict[str, str | int] = {
    "device": "cpu",
    "cpu": "some CPU",
    "threads": 1,
    "torch": "2.13.0",
    "triton": "3.9.0",
    "timer": "time.perf_counter",
}


def saved_benchmarks(results: Sequence[Result]) -> str:
    """The text of the file."""
    benchmarks = [
        {
            "extra_info": {
                name: getattr(result, name)
                for name in ("operation", "case", "dtype", "backend", "passes", "peak_bytes")
            },
            "stats": {"min": result.seconds, "median": result.median_seconds},
        }
        for result in results
    ]
    return json.dumps({"benchmarks": benchmarks, "machine_info": {"environment": ENVIRONMENT}})
