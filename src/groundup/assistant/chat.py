"""Talk to a model in a terminal or through a pipe.

In a terminal the conversation goes on and replies appear word by word. From a pipe, every line is a conversation of
its own that gets one line of reply, unless `/history` asks to keep them together. Commands are the same in both.
"""

import re
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.assistant.history import fit_prompt
from groundup.model.chat_format import END, SPECIAL_TOKENS, Message, load_tokenizer
from groundup.model.check import CAUSAL, check_model
from groundup.model.generation import draw, next_token_logprobs

MAX_ATTEMPTS = 5
HELP = "/topic TEXT sets what we talk about, /reset starts anew, /history turns memory on or off, /quit leaves."


class Chat:
    """One conversation with a model; the same seed and lines give the same replies."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        max_new_tokens: int,
        temperature: float,
        seed: int,
    ) -> None:
        context_length = model.config.max_position_embeddings
        # Half the context at least is for what was said, and bos with both markers are the least that can be.
        if not 1 <= max_new_tokens <= context_length // 2:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}: choose 1 to {context_length // 2}, half of the model's context"
            )
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}: choose 0 (always the likeliest token) or more")
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.max_prompt_tokens = context_length - max_new_tokens
        self.temperature = temperature
        self.seed = seed
        self.num_turns = 0
        self.topic = ""
        self.history: list[Message] = []
        # A reply is text that ends: markers of other turns in it could not be read back.
        self.markers = [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS if token != END]

    def prompt(self, message: str) -> tuple[list[int], bool]:
        """Token ids of the conversation with the next message, and whether some of it no longer fits."""
        topic: list[Message] = [{"role": "system", "content": self.topic}] if self.topic else []
        messages = [*topic, *self.history, {"role": "user", "content": message}]
        fitted = fit_prompt(self.tokenizer, messages, self.max_prompt_tokens)
        return fitted.ids, fitted.num_dropped > 0 or fitted.cut

    def reply(self, prompt: list[int]) -> str:
        """A whole reply, never empty and never broken off.

        A small model sometimes ends at once or runs on. Another draw mostly does better, so a few are tried; the last
        one is ended after its last whole sentence, for a reader is served better by less than by half a sentence.
        """
        text = ""
        for attempt in range(MAX_ATTEMPTS):
            drawn = "".join(self.words(prompt, attempt))
            text = drawn or text
            if drawn and self.ended:
                break
        self.num_turns += 1
        return text if drawn and self.ended else whole_sentences(text)

    def words(self, prompt: list[int], attempt: int) -> Iterator[str]:
        """The reply as words while they are made; `ended` tells afterwards whether it ended by itself."""
        # Attempts of one turn never share a seed with another turn, and a turn's seed does not hang on earlier luck.
        generator = torch.Generator().manual_seed(self.seed + self.num_turns * MAX_ATTEMPTS + attempt)
        self.ended = False
        tokens: list[int] = []
        shown = 0
        for token in self._tokens(prompt, generator):
            if token == self.tokenizer.eos_token_id:
                self.ended = True
                break
            tokens.append(token)
            # A character can be spread over tokens, so only what stands before the last space is final.
            text = self.tokenizer.decode(tokens).lstrip()
            stable = len(text[: max(0, text.rfind(" "))].rstrip())
            if stable > shown:
                yield text[shown:stable]
                shown = stable
        text = self.tokenizer.decode(tokens).strip()
        if len(text) > shown:
            yield text[shown:]

    @torch.no_grad()
    def _tokens(self, prompt: list[int], generator: torch.Generator) -> Iterator[int]:
        device = self.model.device
        ids = torch.tensor([prompt], device=device)
        cache = None
        for _ in range(self.max_new_tokens):
            out = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            logits = out.logits[:, -1]
            logits[:, self.markers] = -torch.inf
            distribution = next_token_logprobs(self.model, logits, self.temperature)
            uniform = torch.rand(1, generator=generator, dtype=torch.float64).to(device)
            token = distribution.argmax(-1) if self.temperature == 0 else draw(distribution, uniform)
            yield int(token)
            ids = token[:, None]

    def remember(self, message: str, reply: str) -> None:
        self.history += [{"role": "user", "content": message}, {"role": "assistant", "content": reply}]

    def reset(self) -> None:
        self.history = []


def whole_sentences(text: str) -> str:
    """The text up to the end of its last sentence, or all of it with an ellipsis where no sentence ends."""
    found = re.match(r".*[.!?][\"')\]]*(?=\s|$)", text, flags=re.DOTALL)
    return found.group() if found else f"{text} ...".lstrip()


def load_chat(model_dir: Path, max_new_tokens: int, temperature: float, seed: int) -> Chat:
    if not (model_dir / "config.json").is_file():
        raise ValueError(f"there is no model in {model_dir}: raise one with `dvc repro`, or name another directory")
    check_model(model_dir, CAUSAL)
    model = LlamaForCausalLM.from_pretrained(model_dir, dtype=torch.float32, use_safetensors=True)
    return Chat(model.eval(), load_tokenizer(str(model_dir)), max_new_tokens, temperature, seed)


def chat_loop(
    model_dir: Path, input: TextIO, output: TextIO, max_new_tokens: int, temperature: float, seed: int
) -> None:
    """Reads messages and commands from `input` until its end or /quit, writes replies to `output`."""
    chat = load_chat(model_dir, max_new_tokens, temperature, seed)
    if isinstance(input, TextIOWrapper):
        input.reconfigure(encoding="utf-8", errors="replace")  # a byte that is no UTF-8 must not end the conversation
    Session(chat, input, output, interactive=input.isatty() and output.isatty()).run()


class Session:
    """Reads lines, answers them, obeys commands."""

    def __init__(self, chat: Chat, input: TextIO, output: TextIO, interactive: bool) -> None:
        self.chat = chat
        self.input = input
        self.output = output
        self.interactive = interactive
        self.keeps_history = interactive
        self.told_that_it_forgets = False

    def run(self) -> None:
        if self.interactive:
            self._say(HELP)
        while True:
            if self.interactive:
                self._write("\nyou> ")
            line = self.input.readline()
            if not line or line.strip() == "/quit":
                break
            if line.strip().startswith("/"):
                self._command(line.strip())
            elif line.strip():
                self._answer(line.strip())

    def _command(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        if command == "/topic":
            self.chat.topic = rest.strip()
            self.chat.reset()
            self._note(f"Topic: {self.chat.topic}" if self.chat.topic else "No topic.")
        elif command == "/reset":
            self.chat.reset()
            self._note("A new conversation.")
        elif command == "/history":
            self.keeps_history = not self.keeps_history
            self.chat.reset()
            self._note("History is on." if self.keeps_history else "History is off: every line stands alone.")
        else:
            self._say(f"There is no command {command}. {HELP}")

    def _answer(self, message: str) -> None:
        prompt, forgets = self.chat.prompt(message)
        if forgets and not self.told_that_it_forgets:
            self.told_that_it_forgets = True
            self._note("(The conversation is longer than the model can see: it forgets the oldest part.)")
        reply = self._stream(prompt) if self.interactive else self.chat.reply(prompt)
        if not self.interactive:
            self._say(" ".join(reply.split()))  # one reply, one line
        if self.keeps_history:
            self.chat.remember(message, reply)

    def _stream(self, prompt: list[int]) -> str:
        """Shows words as they come. What was shown stays, so only an empty reply is drawn again."""
        self._write("assistant> ")
        text = ""
        for attempt in range(MAX_ATTEMPTS):
            for word in self.chat.words(prompt, attempt):
                self._write(word)
                text += word
            if text:
                break
        self.chat.num_turns += 1
        if not (text and self.chat.ended):
            self._write(" ...")
            text = f"{text} ...".lstrip()
        self._write("\n")
        return text

    def _note(self, text: str) -> None:
        """Said to a person; a pipe gets replies only."""
        if self.interactive:
            self._say(text)

    def _say(self, text: str) -> None:
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        self.output.write(text)
        self.output.flush()
