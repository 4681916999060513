"""Write what the stages write, small and fast, below the folder given as the first argument."""

import random
import sys
from pathlib import Path

import torch

from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.model.llama import build_llama, save_model
from groundup.prepare import processes
from groundup.prepare.outputs.outputs import OUTPUTS
from groundup.prepare.prepare import prepare
from groundup.runner.params.training import ModelParams, ScratchModelParams, ScratchTokenizerParams, TokenizerParams
from groundup.tokenizer.tokenizer import train_tokenizer
from tests.prepare.made_up import files_source, make_params, sentence

NON_ASCII = "\u0130stanbul, \u0131\u015f\u0131k, na\u00efve caf\u00e9 \U0001f600. "  # its case depends on the language


def make(folder: Path) -> None:
    rng = random.Random(4)
    write_jsonl(
        folder / "data/own.jsonl",
        ({"id": i, "text": NON_ASCII * (i % 3) + " ".join(sentence(rng, 9) for _ in range(4))} for i in range(120)),
    )
    write_jsonl(
        folder / "data/talk.jsonl",
        (
            {
                "messages": [
                    {"role": ("user", "assistant")[turn % 2], "content": f"{sentence(rng, 9)} {NON_ASCII}{i}"}
                    for turn in range(4)
                ]
            }
            for i in range(40)
        ),
    )
    outs = {name: folder / "out" / name for name in OUTPUTS}
    params = make_params([files_source("own", ["own.jsonl"], "text"), files_source("talk", ["talk.jsonl"], "chats")])
    processes.CHUNKS_ALONE, processes.CHUNK_CHARACTERS = 0, 500  # so that workers take part in all of it
    prepare(params, folder / "data", outs, folder / "out/report", folder / "work", num_processes=2)
    tokenizer = folder / "out/tokenizer"
    train_tokenizer(
        outs["text"],
        tokenizer,
        folder / "out/tokenizer_report",
        folder / "out/shards",
        TokenizerParams(
            scratch=ScratchTokenizerParams(vocab_size=320, min_frequency=2, curve_vocab_sizes=[300]), shard_tokens=2000
        ),
        context_length=32,
        work=folder / "tokenizer_work",
    )
    torch.manual_seed(5)
    tok = load_tokenizer(str(tokenizer))
    model = build_llama(
        ModelParams(
            base=None,
            chat_template="own",
            context_length=32,
            scratch=ScratchModelParams(
                hidden_size=32,
                intermediate_size=48,
                num_layers=1,
                num_heads=2,
                num_kv_heads=1,
                position="rope",
                attention="softmax",
                rope_theta=10000.0,
                tie_embeddings=True,
                initializer_range=0.02,
            ),
        ),
        tok,
    )
    save_model(model, tok, folder / "out/model", f"# {NON_ASCII}\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
