"""The parts of groundup that benchmarks use still exist, since benchmarks run rarely."""

import importlib

import pytest

from tests.conftest import ROOT

IN_PEERS_ENVIRONMENT = {"bench.ppo_vs_trl.run_trl", "bench.prepare.run_datatrove"}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "bench").rglob("*.py")
}


@pytest.mark.parametrize("module", sorted(MODULES - IN_PEERS_ENVIRONMENT))
def test_a_benchmark_finds_what_it_imports(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench/ppo_vs_trl")  # its scripts are started by path
    importlib.import_module(module)
