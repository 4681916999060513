"""None of our files runs code from data, loads a pickle or opens a server to the network."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.security.unsafe import unsafe

OURS = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py"), *(ROOT / "docs").glob("*.py")])


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_our_code_is_safe(path: Path) -> None:
    assert unsafe(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import pickle", "imports pickle"),
        ("import joblib.memory", "imports joblib.memory"),
        ("from dill import loads", "imports dill"),
        ("from torch import load", "takes load out of torch"),
        ("torch.load(p)", "torch.load without weights_only=True"),
        ("torch.load(p, weights_only=False)", "torch.load without weights_only=True"),
        ("torch.load(p, weights_only=flag)", "torch.load without weights_only=True"),
        ("Module.load_from_checkpoint(p)", "Module.load_from_checkpoint without weights_only=True"),
        ("AutoModelForCausalLM.from_pretrained(p)", "may load a pickled file"),
        ("trainer.fit(m, ckpt_path=p)", "trainer.fit without weights_only=True"),
        ("trainer.fit(m, ckpt_path=p if p else None)", "trainer.fit without weights_only=True"),
        ("trainer.fit(m, weights_only=False)", "trainer.fit without weights_only=True"),
        ("np.load(p, allow_pickle=True)", "allow_pickle is not False"),
        ("AutoModel.from_pretrained(p, trust_remote_code=flag)", "trust_remote_code is not False"),
        ("trainer.save_model(p)", "the Trainer's save_model adds"),
        ("eval(text)", "eval runs text as code"),
        ("exec(text)", "exec runs text as code"),
        ("subprocess.run(line, shell=True)", "runs a shell"),
        ("os.system(line)", "runs a shell"),
        ("yaml.load(text)", "yaml.load builds objects"),
        ("YAML(typ='unsafe')", "an unsafe YAML loader"),
        ("Environment(loader=l)", "say autoescape"),
        ("serve(host='0.0.0.0')", "names every network interface"),
        ("serve(host='')", "host is every network interface"),
        ("def serve(port, host=''): ...", "host is every network interface by default"),
        ("def serve(*, host=None): ...", "host is every network interface by default"),
        ("arguments = ['--host', '0.0.0.0']", "names every network interface"),
    ],
)
def test_what_is_unsafe_is_found(code: str, reason: str) -> None:
    assert any(reason in finding for finding in unsafe(code)), unsafe(code)


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(p, map_location='cpu', weights_only=True)",
        "trainer.fit(m, ckpt_path=p, weights_only=True)",
        "trainer.fit(m, ckpt_path=None)",
        "trainer.fit(m)",
        "save_model(model, tokenizer, out, card)",
        "np.load(p, allow_pickle=False)",
        "json.loads(text)",
        "re.compile(pattern)",
        "YAML(typ='safe', pure=True).load(text)",
        "Environment(loader=l, autoescape=True)",
        "serve(host='127.0.0.1')",
        "def serve(host='127.0.0.1'): ...",
    ],
)
def test_what_is_safe_passes(code: str) -> None:
    assert unsafe(code) == []
