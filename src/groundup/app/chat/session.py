"""Talk to models in a terminal or through a pipe.

In a terminal the conversation continues, and replies appear word by word. From a pipe, every line is a separate
conversation with one line of reply, unless `/history` keeps them together; a command that fails ends the
session, since later lines were meant for other settings. The commands are the same in both.
"""

import json
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from groundup.app.chat.chat import MAX_ATTEMPTS, Chat, Conversation
from groundup.app.chat.loading import Models
from groundup.core.decoding import Decoding, parse_decoding
from groundup.core.decoding.settings import READS, REWARDED
from groundup.core.formats.records import Message

HELP = """\
/model NAME        talk to base, sft, aligned or champion
/decode METHOD     greedy, sample, beam, best_of_n or tree, then settings: /decode sample top_p=0.9
/compare NAME      also show replies of that model; /compare alone ends it
/topic TEXT        set the topic of the conversation
/reset             start a new conversation
/history           turn memory on or off
/save FILE         write the conversations as JSON lines, one per line
/help, /quit"""


class Session:
    """Reads lines, answers messages and runs commands."""

    def __init__(
        self, models: Models, model: str, decoding: Decoding, input: TextIO, output: TextIO, interactive: bool
    ) -> None:
        self.models = models
        self.input = input
        self.output = output
        self.interactive = interactive
        self.keeps_history = interactive
        self.conversation = Conversation()
        self.past: list[list[Message]] = []  # finished conversations
        self.num_turns = 0
        self.said_that_it_forgets = False
        self.chats: dict[str, Chat] = {}  # by model: the active one, then one to compare with
        self._choose(decoding, model)

    def run(self) -> None:
        if self.interactive:
            self._say(f"{HELP}\n\nTalking to {self.model}, decoding by {describe(self.decoding)}.")
        while True:
            if self.interactive:
                self._write("\nyou> ")
            line = self.input.readline()
            if not line or line.strip() == "/quit":
                break
            if line.strip().startswith("/"):
                self._obey(line.strip())
            elif line.strip():
                self._answer(line.strip())

    def _obey(self, line: str) -> None:
        try:
            self._command(*line.split(maxsplit=1))
        except (ValueError, OSError) as error:
            if not self.interactive:
                raise ValueError(f"{line}: {error}") from error
            self._say(str(error))

    def _command(self, command: str, rest: str = "") -> None:
        match command:
            case "/model":
                self._choose(self.decoding, rest.strip() or self.model)
                self._note(f"Talking to {self.model}.")
            case "/decode":
                chosen = parse_decoding(rest, self.decoding) if rest else self.decoding
                self._choose(chosen, *self.chats)
                self._note(f"Decoding by {describe(self.decoding)}.")
            case "/compare":
                self._compare(rest.strip())
            case "/topic":
                self._start_new(rest.strip())
                self._note(f"Topic: {self.conversation.topic}" if self.conversation.topic else "No topic.")
            case "/reset":
                self._start_new(self.conversation.topic)
                self._note("A new conversation.")
            case "/history":
                self.keeps_history = not self.keeps_history
                self._start_new(self.conversation.topic)
                self._note("History is on." if self.keeps_history else "History is off: every line is a new start.")
            case "/save":
                self._save(rest.strip())
            case "/help":
                self._note(HELP)
            case _:
                raise ValueError(f"unknown command {command}: /help lists all commands")

    @property
    def model(self) -> str:
        return next(iter(self.chats))

    @property
    def decoding(self) -> Decoding:
        return self.chats[self.model].decoding

    def _choose(self, decoding: Decoding, *names: str) -> None:
        """Changes nothing unless all models can be loaded."""
        rewarded = decoding.method in REWARDED
        self.chats = {name: Chat(self.models.assistant(name, rewarded), decoding) for name in names}

    def _compare(self, name: str) -> None:
        if not name and len(self.chats) == 1:
            raise ValueError("name the model to compare with: /compare sft")
        if name == self.model:
            raise ValueError(f"you talk to {name} already: name another model")
        self._choose(self.decoding, self.model, *([name] if name else []))
        self._note(
            f"{self.model} and {name} side by side; the conversation continues with {self.model}'s replies."
            if name
            else f"{self.model} alone."
        )

    def _start_new(self, topic: str) -> None:
        if self.conversation.turns:
            self.past.append(self.conversation.messages())
        self.conversation = Conversation(topic)

    def _save(self, name: str) -> None:
        said = [*self.past, *([self.conversation.messages()] if self.conversation.turns else [])]
        if not name:
            raise ValueError("name the file to write: /save talk.jsonl")
        if not said:
            raise ValueError("nothing has been said yet")
        text = "".join(json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in said)
        try:
            with Path(name).expanduser().open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except FileExistsError:
            raise ValueError(f"{name} exists already: choose another name") from None
        self._note(f"{len(said)} conversation{'s' if len(said) > 1 else ''} in {name}.")

    def _answer(self, message: str) -> None:
        if not self.keeps_history:
            self._start_new(self.conversation.topic)
        messages = self.conversation.asked(message)
        prompts = {name: chat.prompt(messages) for name, chat in self.chats.items()}
        if any(forgets for _, forgets in prompts.values()) and not self.said_that_it_forgets:
            self.said_that_it_forgets = True
            self._note("(The conversation is longer than the model can see: it forgets the oldest part.)")
        if self.interactive and len(self.chats) == 1:
            replies = [self._stream(self.chats[self.model], prompts[self.model][0])]
        else:
            replies = [chat.reply(prompts[name][0], self.num_turns) for name, chat in self.chats.items()]
            self._show(replies)
        self.num_turns += 1
        self.conversation.add(message, replies[0])

    def _stream(self, chat: Chat, prompt: list[int]) -> str:
        """Print words as they come. Printed words stay, so only an empty reply is sampled again."""
        self._write("assistant> ")
        text = ""
        for attempt in range(MAX_ATTEMPTS):
            for word in chat.words(prompt, self.num_turns, attempt):
                self._write(word)
                text += word
            if text:
                break
        if not (text and chat.ended):
            self._write(" ...")
            text = f"{text} ...".lstrip()
        self._write("\n")
        return text

    def _show(self, replies: list[str]) -> None:
        if self.interactive:
            table = Table(*self.chats, expand=True)
            table.add_row(*(Text(reply) for reply in replies))
            Console(file=self.output).print(table)
        else:  # one line, one column per model
            self._say("\t".join(" ".join(reply.split()) for reply in replies))

    def _note(self, text: str) -> None:
        """Print for people only; a pipe gets nothing but replies."""
        if self.interactive:
            self._say(text)

    def _say(self, text: str) -> None:
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        self.output.write(text)
        self.output.flush()


def describe(decoding: Decoding) -> str:
    numbers = decoding.model_dump(include={"max_new_tokens", "repetition_penalty", *READS[decoding.method]})
    return f"{decoding.method}: {', '.join(f'{name} {value:g}' for name, value in numbers.items())}"


def chat(models: Models, model: str, decoding: Decoding, input: TextIO, output: TextIO) -> None:
    """Read messages and commands from `input` until its end or /quit, and write replies to `output`."""
    session = Session(models, model, decoding, input, output, interactive=input.isatty() and output.isatty())
    if isinstance(input, TextIOWrapper):
        input.reconfigure(encoding="utf-8", errors="replace")  # a byte that is not UTF-8 must not end the session
    session.run()
