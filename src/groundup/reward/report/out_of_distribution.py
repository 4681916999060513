"""Chats unlike the training chats: the reply's words shuffled, in other languages, or one phrase repeated."""

import random
from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.formats.records import Message
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.runtime import draw
from groundup.reward.report.scores import ScoredPairs
from groundup.reward.report.uncertainty import PairErrors, ScoredChats, Uncertainty
from groundup.runner.params.training import RewardParams

MIN_WORDS = 5  # of a reply to shuffle, and of a foreign reply
MIN_REPETITIONS = 3
MAX_PHRASE = 3  # words
FOREIGN = (
    "Ich habe heute keine Zeit, aber wir sehen uns morgen beim Essen",
    "De trein naar de stad vertrekt om acht uur van het andere spoor",
    "Mi hermano trabaja en una tienda cerca del puerto y vende barcos",
    "Oggi piove, ma domani andremo al mare con gli amici di Paolo",
    "Saya suka makan nasi goreng di rumah nenek setiap hari minggu",
    "Ninapenda kusoma vitabu wakati wa jioni na rafiki zangu",
    "Talvella lunta sataa paljon ja ilma on pimea pitkaan",
    "Vi bor i ett litet hus utanfor staden och har en gammal hund",
    "Le matin je bois du lait chaud avec du pain et du miel",
    "Rano pije mleko i czytam stare listy od mojej babci",
    "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae",
    "Tegnap este sokat vartunk a buszra, de nem jott egy sem",
)


def shuffled(reply: str, rng: random.Random) -> str | None:
    """The words in another order; None for a reply that is too short or repeats a single word."""
    words = reply.split()
    if len(words) < MIN_WORDS or len(set(words)) == 1:
        return None
    other = words.copy()
    while other == words:
        rng.shuffle(other)
    return " ".join(other)


def foreign(reply: str, rng: random.Random) -> str:
    """The same number of words from sentences in other languages."""
    words: list[str] = []
    length = max(MIN_WORDS, len(reply.split()))
    while len(words) < length:
        words += rng.choice(FOREIGN).split()
    return " ".join(words[:length])


def repeated(reply: str, rng: random.Random) -> str | None:
    """A phrase of the reply, repeated to its length; None for an empty reply."""
    words = reply.split()
    if not words:
        return None
    size = rng.randint(1, min(MAX_PHRASE, len(words)))
    start = rng.randint(0, len(words) - size)
    phrase = words[start : start + size]
    return " ".join(phrase * max(MIN_REPETITIONS, len(words) // size))


KINDS: dict[str, Callable[[str, random.Random], str | None]] = {
    "shuffled": shuffled,
    "foreign": foreign,
    "repeated": repeated,
}


def unlike(chats: Sequence[list[Message]], kind: str, seed: int) -> list[list[Message] | None]:
    """Each chat with its last reply changed in this way; None where that is not possible."""
    rng = random.Random(f"{seed} {kind}")
    replies = [KINDS[kind](chat[-1]["content"], rng) for chat in chats]
    return [
        None if reply is None else [*chat[:-1], {**chat[-1], "content": reply}]
        for chat, reply in zip(chats, replies, strict=True)
    ]


def measure_uncertainty(
    scorer: RewardScorer, scored: ScoredPairs, tokenizer: PreTrainedTokenizerFast, params: RewardParams
) -> Uncertainty:
    """On test pairs, on a sample of their chats, and on changed versions of these; too long chats are left out."""
    sides: dict[tuple[int, ...], tuple[list[Message], str]] = {}  # each chat once, with its conversation
    for pair in scored.pairs:
        sides[tuple(pair.chosen)] = pair.row["chosen"], pair.row["chosen_id"]
        sides[tuple(pair.rejected)] = pair.row["rejected"], pair.row["rejected_id"]
    chats = draw(list(sides.values()), params.variational.num_ood_chats, params.seed)

    def score(changed: Sequence[list[Message] | None]) -> ScoredChats:
        rendered = [
            (render(tokenizer, messages, reply_next=False), [conversation])
            for messages, (_, conversation) in zip(changed, chats, strict=True)
            if messages is not None
        ]
        fitting = [row for row in rendered if len(row[0]) <= params.max_length]
        std = scorer.score([ids for ids, _ in fitting])[1]
        return ScoredChats(std.double().numpy(), [conversation for _, conversation in fitting])

    originals = [messages for messages, _ in chats]
    changed = {kind: score(unlike(originals, kind, params.seed)) for kind in KINDS}
    outside = {kind: chats for kind, chats in changed.items() if len(chats.std)}
    return Uncertainty(PairErrors.of(scored.means, scored.stds), score(originals), outside)
