# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The code of docs/data.md that packs QVHighlights' published features."""

import re
from pathlib import Path

import numpy as np
import pytest

from mesm_plugin.datasets import HDF5FeatureStore, PreExtractedText

DOCS = Path(__file__).parents[2] / "docs"


def test_published_layout_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(from pathlib.*?)```", (DOCS / "data.md").read_text(encoding="utf-8"), re.DOTALL)
    vid, rng = "source_60.0_210.0", np.random.default_rng(0)
    for folder, name, key, dims in (
        ("clip_features", vid, "features", 512),
        ("slowfast_features", vid, "features", 2304),
        ("clip_text_features", "qid17", "last_hidden_state", 512),
    ):
        (tmp_path / "features" / folder).mkdir(parents=True)
        values = rng.standard_normal((9, dims), dtype=np.float32)
        np.savez(tmp_path / "features" / folder / f"{name}.npz", **{key: values})
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    features = HDF5FeatureStore(["slowfast.hdf5", "clip_image.hdf5"], dims=[2304, 512])[vid]
    assert features.shape == (9, 2816)
    np.testing.assert_allclose(np.linalg.norm(features[:, 2304:], axis=1), 1, atol=1e-5)
    assert PreExtractedText("clip_text.hdf5").encode("a door", 17)["words"].shape == (9, 512)
