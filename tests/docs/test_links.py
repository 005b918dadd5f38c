# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the documentation points to exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_configs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [path for path in re.findall(r"configs/[\w/]+\.py", text) if not (ROOT / path).is_file()]
    assert not missing
