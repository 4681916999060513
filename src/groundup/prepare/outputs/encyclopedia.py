"""Questions about an article in several phrasings, which evaluation uses too."""

import re
from dataclasses import dataclass
from itertools import islice

from groundup.core.formats.hashing import hash_fraction, hash_integer
from groundup.core.formats.records import Article, Message
from groundup.prepare.outputs.sentences import first_sentences, hide_name, split_sentences

PHRASINGS = {
    "about": ("Tell me about {title}.", "What do you know about {title}?", "Explain {title} to me.", "{title}?"),
    "describe": (
        "Describe {title} in a few words.",
        "In short, what is {title}?",
        "Give me a short description of {title}.",
    ),
    "topic": (
        "What is the topic of this? {summary}",
        "Which field does this belong to? {summary}",
        "{summary} What is this text about?",
    ),
    "entity": (
        "What is described here? {summary}",
        "Name what this describes. {summary}",
        "{summary} What is ___?",
    ),
    "continue": ("Tell me more. {summary}", "{summary} Go on.", "{summary} What else?"),
}
KINDS = tuple(PHRASINGS)
DISAMBIGUATION = re.compile(r" \([^()]*\)$")  # "Hoe (tool)"


@dataclass(frozen=True)
class Question:
    """A question of one kind with its answer; chats and evaluation use the same ones."""

    kind: str
    question: str
    answer: str

    def messages(self) -> list[Message]:
        return [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]


def ask(article: Article, kind: str, seed: int, max_characters: int) -> Question | None:
    """None where the article has no answer to this kind of question."""
    sentences = split_sentences(article.extract)
    name = DISAMBIGUATION.sub("", article.title)
    summary = first_sentences(sentences, max_characters)
    match kind:
        case "about":
            answer = summary
        case "describe":
            answer = article.description
        case "topic":
            answer = article.topic or ""
            summary = first_sentences(sentences[:1], max_characters)
        case "entity":
            answer = name
            summary = hide_name(name, summary)
        case "continue":
            answer = first_sentences(sentences[1:], max_characters)
            summary = first_sentences(sentences[:1], max_characters)
        case _:
            raise AssertionError(kind)
    if not answer or not summary:
        return None
    phrasings = PHRASINGS[kind]
    phrasing = phrasings[hash_integer(seed, f"phrasing {kind}", article.id) % len(phrasings)]
    return Question(kind, phrasing.format(title=name, summary=summary), answer)


def questions(article: Article, num_questions: int, seed: int, max_characters: int) -> list[Question]:
    """Up to `num_questions` of different kinds, in an order of kinds that differs from article to article."""
    kinds = sorted(KINDS, key=lambda kind: hash_fraction(seed, f"kind {kind}", article.id))
    asked = (ask(article, kind, seed, max_characters) for kind in kinds)
    return list(islice((question for question in asked if question is not None), num_questions))
