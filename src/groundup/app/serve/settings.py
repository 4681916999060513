"""Limits of a server."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    max_batch: int  # replies that share forward passes, for each model
    max_queue: int  # replies that may wait for a slot; more get 429
    max_choices: int  # replies to one request
    max_tokens: int  # of one reply
    max_search_tokens: int  # spent by beam, best_of_n and tree on one reply
    max_body_bytes: int
    request_timeout: float  # seconds per request, including waiting
    body_timeout: float  # seconds until the whole request must have arrived
    api_key: str | None
    allowed_hosts: list[str]  # accepted Host headers, against DNS rebinding by other sites
    feedback_file: Path
    max_feedback_bytes: int  # of that file; a thumb beyond them is refused

    def problems(self) -> list[str]:
        """Every setting that cannot work."""
        problems = [
            f"{name} is {value}: choose more than 0"
            for name, value in vars(self).items()
            if name != "max_queue" and isinstance(value, int | float) and value <= 0
        ]
        if self.max_queue < 0:
            problems.append(f"max_queue is {self.max_queue}: choose 0 (nobody waits) or more")
        if self.max_choices > self.max_batch + self.max_queue:
            problems.append(
                f"max_choices is {self.max_choices}: choose at most {self.max_batch + self.max_queue}, "
                "the sum of max_batch and max_queue, or such a request never fits"
            )
        if self.api_key is not None and (not self.api_key or not self.api_key.isascii()):
            problems.append("the API key must be ASCII characters, at least one")
        return problems
