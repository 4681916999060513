"""Load on a running `groundup serve`: clients that stream replies at the same time, each with the openai client.

python -m bench.serving --url http://127.0.0.1:8000 prints a table.
"""

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import dataclass
from urllib.request import urlopen

from openai import AsyncOpenAI, OpenAIError

MESSAGES = (
    "Hello! How are you today?",
    "Do you like music?",
    "What did you do last weekend? I went to the beach with my family.",
    "Tell me about your favourite book.",
)


@dataclass(frozen=True)
class Measured:
    first_token: float  # seconds
    whole: float  # seconds
    num_tokens: int


async def ask(client: AsyncOpenAI, model: str, seed: int) -> Measured:
    start = time.perf_counter()
    first_token = 0.0
    num_tokens = 0
    parts = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": MESSAGES[seed % len(MESSAGES)]}],
        seed=seed,
        max_tokens=64,
        stream=True,
        stream_options={"include_usage": True},
    )
    async for part in parts:
        first_token = first_token or time.perf_counter() - start
        if part.usage:
            num_tokens = part.usage.completion_tokens
    return Measured(first_token, time.perf_counter() - start, num_tokens)


async def load(url: str, model: str, num_clients: int, num_requests: int) -> tuple[list[Measured], int, float]:
    """What was measured, the number of errors, and the seconds that all took together."""
    clients = [AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) for _ in range(num_clients)]
    measured: list[Measured] = []
    errors = 0

    async def work(number: int) -> None:
        nonlocal errors
        for request in range(num_requests // num_clients):
            try:
                measured.append(await ask(clients[number], model, number + request * num_clients))
            except OpenAIError:
                errors += 1

    await asyncio.gather(*(ask(client, model, 0) for client in clients))  # connections are open, caches are warm
    start = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(num_clients)))
    seconds = time.perf_counter() - start
    for client in clients:
        await client.close()
    return measured, errors, seconds


def batch_size(url: str) -> tuple[float, float]:
    """Replies of all steps so far, and steps."""
    with urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    total, count = (
        sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"groundup_batch_size_{kind}{{"))
        for kind in ("sum", "count")
    )
    return total, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="aligned")
    parser.add_argument("--requests", type=int, default=320)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    arguments = parser.parse_args()
    sys.stdout.write(
        "| clients | errors | replies/s | tokens/s | first token, ms (95 %) | reply, ms (95 %) | replies a step |"
        + "\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|" + "\n")
    for num_clients in arguments.clients:
        before = batch_size(arguments.url)
        measured, errors, seconds = asyncio.run(load(arguments.url, arguments.model, num_clients, arguments.requests))
        total, count = (after - start for after, start in zip(batch_size(arguments.url), before, strict=True))
        first, whole = (
            [1000 * x for x in values] for values in ([m.first_token for m in measured], [m.whole for m in measured])
        )
        cells = [
            str(num_clients),
            str(errors),
            f"{len(measured) / seconds:.0f}",
            f"{sum(m.num_tokens for m in measured) / seconds:,.0f}",
            f"{statistics.median(first):.0f} ({statistics.quantiles(first, n=20)[-1]:.0f})",
            f"{statistics.median(whole):.0f} ({statistics.quantiles(whole, n=20)[-1]:.0f})",
            f"{total / count:.1f}",
        ]
        sys.stdout.write(f"| {' | '.join(cells)} |" + "\n")


if __name__ == "__main__":
    main()
