"""Prometheus metrics of the server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()  # its own registry, since a process can hold several servers
        self.requests = self._counter("groundup_requests", "Requests by path and status.", "path", "status")
        self.seconds = Histogram(
            "groundup_request_seconds", "Until the last byte.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.first_token = Histogram(
            "groundup_time_to_first_token_seconds", "Waiting included.", buckets=SECONDS, registry=self.registry
        )
        self.prompt_tokens = self._counter("groundup_prompt_tokens", "Tokens of prompts.", "model")
        self.generated_tokens = self._counter("groundup_generated_tokens", "Tokens of replies.", "model")
        self.cancelled = self._counter("groundup_cancelled_replies", "Given up: the client left, or time ran out.")
        self.batch_size = Histogram(
            "groundup_batch_size", "Replies that shared a step.", ["model"], buckets=ROWS, registry=self.registry
        )
        self.running = Gauge("groundup_running_replies", "Replies in the making.", registry=self.registry)
        self.waiting = Gauge(
            "groundup_waiting_replies", "Replies that wait for a slot or a prompt.", registry=self.registry
        )

    def _counter(self, name: str, says: str, *labels: str) -> Counter:
        return Counter(name, says, labels, registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
