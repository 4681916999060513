"""Params of prepare. params.yaml says what each key means, data/README.md those of sources of your own."""

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
Lengths = Annotated[list[Positive], Field(min_length=1)]


class SourceSection(Section):
    """What every kind of source has."""

    kind: str
    name: SourceName
    licence: str


class RowsSource(SourceSection):
    """A source whose rows have columns."""

    yields: Literal["text", "chats", "preferences", "prompts"]
    text_column: str


class PackageSource(SourceSection):
    """One file of an installed data package, read through importlib.metadata and never imported."""

    kind: Literal["package"]
    package: str
    version: str
    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    format: Literal["rated_conversations", "encyclopedia"]
    max_documents: Positive | None


class FilesSource(RowsSource):
    """Local files under data/: .txt .md .jsonl .parquet, plain or .gz or .zst."""

    kind: Literal["files"]
    paths: Annotated[list[str], Field(min_length=1)]


class HubSource(RowsSource):
    """A Hugging Face dataset (hub id or local folder), streamed, its revision pinned."""

    kind: Literal["hub"]
    dataset: str
    config: str | None
    split: str
    revision: str
    max_rows: Positive | None


Source = Annotated[PackageSource | FilesSource | HubSource, Field(discriminator="kind")]


class CleanParams(Section):
    languages: Annotated[list[str], Field(min_length=1)]
    min_language_probability: Fraction
    min_language_characters: Positive
    language_sample_characters: Positive
    min_characters: Positive
    max_characters: Positive
    max_repeated_line_fraction: Fraction
    repeated_ngram_words: Positive
    max_repeated_ngram_fraction: Fraction


class DedupParams(Section):
    num_permutations: Positive
    shingle_words: Positive
    threshold: OpenFraction


class SplitParams(Section):
    val: OpenFraction
    test: OpenFraction
    monitor: OpenFraction
    judge: OpenFraction


class ChatParams(Section):
    min_turns: Positive
    encyclopedia_questions: Count
    max_answer_characters: Positive


class RelevanceParams(Section):
    turns: Lengths
    min_characters: Positive
    pairs_per_reply: Positive
    earlier_turn_fraction: Fraction
    same_opening_fraction: Fraction


class PreferenceParams(Section):
    min_rating_gap: PositiveFloat
    excerpt_turns: Lengths
    margin_scale: PositiveFloat
    max_pairs_per_conversation: Positive
    relevance: RelevanceParams


class PromptParams(Section):
    turns: Lengths
    max_per_conversation: Positive


class EvaluationParams(Section):
    num_choices: Annotated[int, Field(ge=2)]
    max_items: Positive
    min_choice_characters: Positive
    max_characters: Positive


class CanaryParams(Section):
    num_canaries: Annotated[int, Field(ge=1, le=20)]
    repetitions: Annotated[list[Positive], Field(min_length=1, max_length=4)]
    num_digits: Annotated[int, Field(ge=4, le=12)]


class PrepareParams(Section):
    seed: Seed
    sources: Annotated[list[Source], Field(min_length=1)]
    max_row_bytes: Positive
    max_bad_row_fraction: Fraction
    quarantine_rows: Positive
    clean: CleanParams
    dedup: DedupParams
    decontaminate_ngram: Positive
    splits: SplitParams
    chats: ChatParams
    preferences: PreferenceParams
    prompts: PromptParams
    evaluation: EvaluationParams
    canaries: CanaryParams | None
    card_examples: Positive
