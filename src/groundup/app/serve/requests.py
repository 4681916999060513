"""Request bodies: the OpenAI fields that apply here, and a few of our own.

An unknown field that would change the answer is refused, because the client would assume that it is respected.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from groundup.core.formats.records import role_of

MAX_TOP_LOGPROBS = 20
MAX_MESSAGES = 256


def whole_characters(text: str) -> str:
    """JSON can hold half a surrogate pair, which no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a surrogate pair at character {error.start + 1}: send whole characters") from None
    return text


Text = Annotated[str, AfterValidator(whole_characters)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=100)]  # also excludes half a surrogate pair
Neutral = Annotated[float, Field(ge=0, le=0)]  # an unsupported penalty, of which only 0 is accepted


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class TextPart(Body):
    type: Literal["text"]
    text: Text


class ChatMessage(Body):
    role: Annotated[Literal["system", "user", "assistant", "developer"], AfterValidator(role_of)]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _said_something(self) -> Self:
        if self.role != "assistant" and not self.text.strip():  # an assistant's reply may be empty
            raise ValueError(f"the {self.role} message is empty: write something")
        return self


class StreamOptions(Body):
    include_usage: bool = False


class DecodingChoice(Body):
    """The decoding method and its numbers; missing numbers are the server's."""

    method: Literal["greedy", "sample", "beam", "best_of_n", "tree"]
    num_beams: int | None = None
    n: int | None = None
    keep: int | None = None
    depth: int | None = None
    budget_tokens: int | None = None
    pessimism: float | None = None


class Request(Body):
    """Fields of both kinds of completion."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, lt=1)
    repetition_penalty: float | None = Field(default=None, ge=1, le=10)
    presence_penalty: Neutral | None = None
    frequency_penalty: Neutral | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options need stream: true")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or [])

    @property
    def token_temperature(self) -> float:
        return 1.0 if self.temperature is None else self.temperature  # OpenAI's default

    @property
    def num_choices(self) -> int:
        return self.n or 1

    @property
    def num_prompts(self) -> int:
        return 1

    @property
    def num_replies(self) -> int:
        return self.num_choices * self.num_prompts


class ChatRequest(Request):
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1)  # OpenAI's newer name for max_tokens
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    truncation: Literal["disabled", "auto"] = "disabled"  # auto drops the oldest turns if the context is full
    decoding: DecodingChoice | None = None

    @field_validator("messages")
    @classmethod
    def _user_speaks_last(cls, messages: list[ChatMessage]) -> list[ChatMessage]:
        if messages[-1].role != "user":
            raise ValueError("the last message must be the user's: the model replies to it")
        return messages

    @model_validator(mode="after")
    def _fields_that_belong_together(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ: give one of them")
        if self.search is not None and (self.num_choices > 1 or self.logprobs):
            raise ValueError(
                f"decoding {self.search.method} gives one reply without logprobs: leave out n and logprobs"
            )
        return self

    @property
    def token_temperature(self) -> float:
        is_greedy = self.decoding is not None and self.decoding.method == "greedy"
        return 0.0 if is_greedy else super().token_temperature

    @property
    def search(self) -> DecodingChoice | None:
        """The decoding if it is a search, not token by token; else None."""
        return None if self.decoding is None or self.decoding.method in ("greedy", "sample") else self.decoding

    @property
    def num_top(self) -> int:
        return self.top_logprobs or 0

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.logprobs)

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Request):
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=128)]
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def num_prompts(self) -> int:
        return len(self.prompts)

    @property
    def num_top(self) -> int:
        return self.logprobs or 0

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_tokens


class Feedback(Body):
    """A thumb on a reply, from the web page."""

    model: str
    decoding: Text
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)  # the messages before the reply
    reply: Text = Field(min_length=1)
    rating: Literal["up", "down", "none"]  # none withdraws a thumb
    beside: Text | None = None  # the reply shown next to it
