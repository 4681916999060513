"""The models of a checkout for chat, by name."""

from dataclasses import replace
from pathlib import Path

import torch

from groundup.core.decoding.assistant import Assistant
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.control_tokens import never_sampled
from groundup.core.model.check import CAUSAL, REWARD, check_model
from groundup.core.model.kernels import avoid_cudnn_attention
from groundup.core.model.llama import load_causal_lm
from groundup.core.model.scoring import RewardScorer
from groundup.runner.base import RECORD, models_folder
from groundup.runner.environment import main_root, tracking_store
from groundup.runner.params.section import MODEL_NAME
from groundup.runner.tracking.check import check_store

NAMES = ("base", "sft", "aligned", "champion")


class Models:
    """Loads each model on first use, and keeps it."""

    def __init__(self, root: Path, device: torch.device) -> None:
        avoid_cudnn_attention()
        self.root = root
        self.device = device
        self._assistants: dict[str, Assistant] = {}
        self._scorer: RewardScorer | None = None

    def assistant(self, name: str, rewarded: bool) -> Assistant:
        """`rewarded`: with the reward model, which best_of_n and tree need."""
        if name not in self._assistants:
            self._assistants[name] = load_assistant(model_path(self.root, name), self.device)
        found = self._assistants[name]
        return replace(found, scorer=self._reward_model(found)) if rewarded else found

    def _reward_model(self, assistant: Assistant) -> RewardScorer:
        path = self.root / "artifacts/reward"
        if self._scorer is None:
            if not (path / "config.json").is_file():
                raise ValueError(
                    f"best_of_n and tree need a reward model, and {path} has none: train one with `dvc "
                    "repro`, or choose greedy, sample or beam"
                )
            check_model(path, REWARD)
            self._scorer = RewardScorer.load(path, self.device)
        if load_tokenizer(str(path)).get_vocab() != assistant.tokenizer.get_vocab():
            raise ValueError(
                f"the reward model in {path} has another tokenizer than the model, so it cannot score its replies: "
                "run `dvc repro`, or choose greedy, sample or beam"
            )
        return self._scorer


def model_path(root: Path, name: str) -> Path:
    if name not in NAMES:
        folder = models_folder(root) / name
        if MODEL_NAME.fullmatch(name) is None or not folder.is_dir():
            raise ValueError(f"unknown model {name!r}: choose {', '.join(NAMES)} or a merged model in models/")
        if (folder / RECORD).is_file():
            raise ValueError(
                f"{folder} is as it was fetched, not yet made ready for chats: `groundup configure --base {name}` and "
                "`dvc repro` make base, sft and aligned of it; choose one of these"
            )
        return folder
    if name == "champion":
        return champion_path(root)
    return root / "artifacts" / name


def champion_path(root: Path) -> Path:
    """Directory of the checkout's champion, for from_pretrained; ValueError, with the remedy, if there is none."""
    if problem := check_store(root, to_write=False):
        raise ValueError(f"the champion is in MLflow, which cannot be reached now: {problem}")
    from groundup.runner.tracking.fetch import fetch_champion  # imports MLflow: 3 s

    return fetch_champion(tracking_store(root)[0], main_root(root) / ".work/champion")


def load_assistant(path: Path, device: torch.device) -> Assistant:
    if not (path / "config.json").is_file():
        raise ValueError(f"there is no model in {path}: train one with `dvc repro`, or choose another model")
    check_model(path, CAUSAL)
    model = load_causal_lm(path, device)
    tokenizer = load_tokenizer(str(path))
    # Never sample markers of other turns: a reply with them could not be parsed.
    never = model.generation_config.suppress_tokens or []
    markers = never_sampled(tokenizer, model.config.vocab_size)
    model.generation_config.suppress_tokens = sorted({*never, *markers})
    return Assistant(model.eval(), tokenizer)
