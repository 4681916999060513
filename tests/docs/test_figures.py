"""docs/figures.py --check fails where a figure of a page, or the picture, is not that of the committed results."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.imports import ROOT

READ = ("README.md", "docs", "bench", "metrics", "presets", "dvc.yaml", "dvc.lock", "params.yaml")
BLOCK = re.compile(r"<!-- (\S+) -->\n(.*?)<!-- /\1 -->", re.DOTALL)
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCKS = [(page, name) for page in PAGES for name, _ in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for name in READ:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, root / name)
    (root / "src").symlink_to(ROOT / "src")
    return root


@pytest.fixture(scope="module")
def before(copy: Path) -> str:
    return problems(copy)


def problems(root: Path) -> str:
    command = [sys.executable, "docs/figures.py", "--check"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True).stderr


def changed(text: str) -> str:
    """Another first letter or digit."""
    return re.sub(r"[a-z0-9]", lambda found: "7" if found[0] != "7" else "2", text, count=1)


@pytest.mark.parametrize(
    ("page", "block"), [pytest.param(page, block, id=f"{page.name} {block}") for page, block in BLOCKS]
)
def test_a_figure_changed_by_hand_is_found(copy: Path, before: str, page: Path, block: str) -> None:
    path = copy / page.relative_to(ROOT)
    text = path.read_text(encoding="utf-8")
    (content,) = (content for name, content in BLOCK.findall(text) if name == block)
    stale = f"{page.relative_to(ROOT).as_posix()} does not show the committed results"
    assert stale not in before
    path.write_text(text.replace(content, changed(content)), encoding="utf-8")
    try:
        assert stale in problems(copy)
    finally:
        path.write_text(text, encoding="utf-8")


def test_a_picture_of_other_stages_is_found(copy: Path) -> None:
    path = copy / "docs/images/pipeline.svg"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(">pretrain<", ">training<"), encoding="utf-8")
    assert "docs/images/pipeline.svg does not show the committed results" in problems(copy)
    path.write_text(text, encoding="utf-8")


def test_a_block_that_nothing_fills_or_that_no_page_has_is_found(copy: Path) -> None:
    path = copy / "README.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"<!-- (/?)times -->", r"<!-- \1times-typed-wrong -->", text), encoding="utf-8")
    found = problems(copy)
    assert "nothing fills <!-- times-typed-wrong -->" in found
    assert "no page has a block <!-- times --> ... <!-- /times -->" in found
    path.write_text(text, encoding="utf-8")


def test_the_figures_and_a_sample_of_a_run_are_taken_over(copy: Path) -> None:
    pages = ("README.md", "docs/howto.md", "docs/results.json")
    before = {name: (copy / name).read_text(encoding="utf-8") for name in pages}
    results = json.loads(before["docs/results.json"])
    (sample,) = results.pop("samples")
    results["evaluate"] |= {"win_rate_vs_sft_gold": 0.9}
    results["pretrain"]["num_parameters"] = 1234
    for stage, figures in results.items():
        (copy / f"artifacts/reports/{stage}").mkdir(parents=True)
        (copy / f"artifacts/reports/{stage}/metrics.json").write_text(json.dumps(figures))
    replies = {name: {"text": f"{text}\n!"} for name, text in sample.items() if name != "messages"}
    row = json.dumps({"messages": sample["messages"]} | replies)
    (copy / "artifacts/reports/evaluate/replies.jsonl").write_text(f"{row}\n{row}\n")
    try:
        subprocess.run([sys.executable, "docs/figures.py"], cwd=copy, check=True)
        after = {name: (copy / name).read_text(encoding="utf-8") for name in pages}
        assert "the model has 1,234 parameters" in after["README.md"]
        assert after["docs/howto.md"].count(f"{sample['aligned']} !\n") == 1
        assert json.loads(after["docs/results.json"])["evaluate"] == results["evaluate"]
    finally:
        for name, text in before.items():
            (copy / name).write_text(text, encoding="utf-8")
