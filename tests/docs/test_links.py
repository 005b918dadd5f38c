# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""What the documentation points to exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "bench|docs|kernels|mesm_plugin|registry|tests"


def anchors(page: Path) -> set[str]:
    """What can be linked to in a page: its headings, in lower case, with hyphens for blanks, without punctuation."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links(page: Path) -> None:
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert not missing


def test_every_page_is_linked() -> None:
    links = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    }
    assert not [page.name for page in PAGES[1:] if page.resolve() not in links]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_configs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [path for path in re.findall(r"configs/[\w/]+\.py", text) if not (ROOT / path).is_file()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files(page: Path) -> None:
    paths = re.findall(rf"`((?:{FOLDERS})/[\w/.]*)`", page.read_text(encoding="utf-8"))
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_modules(page: Path) -> None:
    modules = re.findall(r"python -m ((?:bench|tests)[\w.]*)", page.read_text(encoding="utf-8"))
    assert not [module for module in modules if not (ROOT / f"{module.replace('.', '/')}.py").is_file()]
