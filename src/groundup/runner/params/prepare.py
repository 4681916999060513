"""Params of prepare: sources, cleaning, deduplication, splits, chats, preferences, prompts, evaluation sets."""

from typing import Annotated, Literal

from pydantic import Field

from groundup.runner.params.section import (
    Count,
    Fraction,
    OpenFraction,
    Positive,
    PositiveFloat,
    Section,
    Seed,
)

# Part of metric names, which MLflow restricts.
SourceName = Annotated[str, Field(pattern="^[a-z0-9_-]+$")]


class PackageSource(Section):
    """One file of an installed data package, read through importlib.metadata and never imported."""

    kind: Literal["package"]
    name: SourceName
    package: str
    version: str
    path: str  # inside site-packages
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    format: Literal["rated_conversations", "encyclopedia"]
    max_documents: Positive | None  # the first so many by the hash of their id
    licence: str


class FilesSource(Section):
    """Local files under data/: .txt .md .jsonl .parquet, plain or .gz or .zst."""

    kind: Literal["files"]
    name: SourceName
    paths: Annotated[list[str], Field(min_length=1)]  # globs relative to data/
    yields: Literal["text", "chats", "preferences", "prompts"]
    text_column: str  # of .jsonl and .parquet files that yield text
    licence: str


class HubSource(Section):
    """A Hugging Face dataset (hub id or local folder), streamed, its revision pinned."""

    kind: Literal["hub"]
    name: SourceName
    dataset: str
    config: str | None
    split: str
    revision: str
    yields: Literal["text", "chats", "preferences", "prompts"]
    text_column: str
    max_rows: Positive | None
    licence: str


Source = Annotated[PackageSource | FilesSource | HubSource, Field(discriminator="kind")]


class CleanParams(Section):
    languages: Annotated[list[str], Field(min_length=1)]
    min_language_probability: Fraction  # of all `languages` together
    min_language_characters: Positive  # shorter documents skip language identification
    language_sample_characters: Positive  # the start of a document that it looks at
    min_characters: Positive
    max_characters: Positive  # longer documents are split at paragraph or sentence borders
    max_repeated_line_fraction: Fraction
    repeated_ngram_words: Positive
    max_repeated_ngram_fraction: Fraction


class DedupParams(Section):
    num_permutations: Positive
    shingle_words: Positive
    threshold: OpenFraction  # estimated Jaccard similarity


class SplitParams(Section):
    """Shares of the hash range; what is left over is train."""

    val: OpenFraction
    test: OpenFraction
    monitor: OpenFraction
    judge: OpenFraction


class ChatParams(Section):
    min_turns: Positive
    encyclopedia_questions: Count  # question-answer chats per article, each of another kind
    max_answer_characters: Positive  # of an encyclopedia answer: whole sentences up to this length


class RelevanceParams(Section):
    """Pairs of the reply that was given and one that does not belong there."""

    turns: Annotated[list[Positive], Field(min_length=1)]  # lengths of the excerpts, even: they end on a reply
    min_characters: Positive  # of the reply
    earlier_turn_fraction: Fraction  # share whose wrong reply is an earlier turn: on the topic, but said before


class PreferenceParams(Section):
    min_rating_gap: PositiveFloat
    excerpt_turns: Annotated[
        list[Positive], Field(min_length=1)
    ]  # pairs are made of first turns of each length, even: they end on a reply
    margin_scale: PositiveFloat  # margin = rating gap x scale
    max_pairs_per_conversation: Positive  # at each length
    relevance: RelevanceParams


class PromptParams(Section):
    turns: Annotated[list[Positive], Field(min_length=1)]  # lengths of the prefixes, odd: they end on a user turn
    max_per_conversation: Positive


class EvaluationParams(Section):
    num_choices: Annotated[int, Field(ge=2)]
    max_items: Positive  # per task
    min_choice_characters: Positive  # shorter replies ("lol") fit everywhere
    max_characters: Positive  # of a query with its longest choice: it must fit in the context


class CanaryParams(Section):
    """Made-up secrets planted in the training text, for evaluate to look for."""

    num_canaries: Annotated[int, Field(ge=1, le=20)]  # at each number of repetitions
    repetitions: Annotated[list[Positive], Field(min_length=1, max_length=4)]  # documents that hold the same secret
    num_digits: Annotated[int, Field(ge=4, le=12)]


class PrepareParams(Section):
    seed: Seed
    sources: Annotated[list[Source], Field(min_length=1)]
    max_row_bytes: Positive  # a larger row is a bad row; no more of a line is held
    max_bad_row_fraction: Fraction  # of the rows of a source; more of them stop the stage
    quarantine_rows: Positive  # in quarantine.jsonl, of each source and reason: the first so many
    clean: CleanParams
    dedup: DedupParams
    decontaminate_ngram: Positive  # words
    splits: SplitParams
    chats: ChatParams
    preferences: PreferenceParams
    prompts: PromptParams
    evaluation: EvaluationParams
    canaries: CanaryParams | None  # null: none
    card_examples: Positive
