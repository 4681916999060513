"""Forward passes and gradients against the same on the CPU in fp32: relative errors of norms."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from bench.gpu.machine import Machine, kernels
from bench.gpu.rows import Figures, Measurement
from groundup.core.model.cache import prefill_fast
from groundup.core.model.decode_step import DecodeStep
from groundup.core.model.forward import PackedAttention, RowAttention, hidden_states
from groundup.pretrain.cross_entropy import linear_cross_entropy

LIMITS = {"fp32": 1e-4, "bf16": 3e-2}
GRADIENT_LIMITS = {"fp32": 1e-3, "bf16": 1e-1}  # through all layers
LENGTHS = [7, 30, 2, 51]
Make = Callable[[], Tensor]


def measurements(machine: Machine) -> Iterator[Measurement]:
    torch.manual_seed(0)
    on_cpu = Machine(torch.device("cpu"), is_toy=True)
    reference = on_cpu.model()
    with torch.no_grad():
        for weight in reference.parameters():  # so large that attention matters
            weight.mul_(3)
    ours = on_cpu.model()
    ours.load_state_dict(reference.state_dict())
    ours.to(machine.device)
    chats = [list(range(5, 5 + length)) for length in LENGTHS]
    batch = on_cpu.packed_rows(2)

    def packed(model: LlamaForCausalLM, device: torch.device) -> Tensor:
        ids = torch.tensor([token for chat in chats for token in chat], device=device)
        everywhere = torch.arange(len(ids), device=device)
        return hidden_states(model.model, ids, PackedAttention(LENGTHS, device), everywhere)

    def rows(model: LlamaForCausalLM, device: torch.device) -> Tensor:
        ids = batch["input_ids"].flatten().to(device)
        layout = RowAttention(batch["position_ids"].to(device))
        everywhere = torch.arange(len(ids), device=device)
        return hidden_states(model.model, ids, layout, everywhere)

    def decoded() -> Tensor:
        cache, _ = prefill_fast(ours.model, [chat[:-1] for chat in chats], 1)
        last = torch.tensor([chat[-1] for chat in chats], device=machine.device)
        return DecodeStep(ours.model, 64)(cache, last)

    with torch.no_grad():
        of_chats, of_rows = packed(reference, on_cpu.device), rows(reference, on_cpu.device)
    ends = torch.tensor(LENGTHS).cumsum(0) - 1
    for precision, limit in LIMITS.items():
        half = precision == "bf16"
        compared = f"fp32 on the CPU, at most {limit:g}"

        def forward(make: Make, expected: Tensor, half: bool = half, limit: float = limit) -> Figures:
            with kernels(), machine.half(half), torch.no_grad():
                return judged(relative(make(), expected), limit)

        yield Measurement(
            f"packed chats, {precision}", compared, partial(forward, lambda: packed(ours, machine.device), of_chats)
        )
        yield Measurement(
            f"rows of documents, {precision}", compared, partial(forward, lambda: rows(ours, machine.device), of_rows)
        )
        yield Measurement(f"a step of decoding, {precision}", compared, partial(forward, decoded, of_chats[ends]))
        yield Measurement(
            f"cross-entropy and its gradients, {precision}",
            compared,
            partial(loss_and_gradients, machine, half, limit),
        )
        yield Measurement(
            f"gradient of all weights, {precision}",
            f"fp32 on the CPU, at most {GRADIENT_LIMITS[precision]:g}",
            lambda half=half, precision=precision: judged(  # type: ignore[misc]
                gradient_error(machine, reference, ours, batch, half), GRADIENT_LIMITS[precision]
            ),
        )
    yield Measurement("Muon's singular values", "0.6 to 1.3", lambda: singular_values(machine))


def relative(found: Tensor, expected: Tensor) -> float:
    expected = expected.detach().float().cpu()
    return float((found.detach().float().cpu() - expected).norm() / expected.norm())


def judged(error: float, limit: float) -> Figures:
    return {"relative error": error, "within the limit": error <= limit}


def loss_and_gradients(machine: Machine, half: bool, limit: float) -> Figures:
    torch.manual_seed(0)
    hidden, weight = torch.randn(700, 64, requires_grad=True), torch.randn(512, 64, requires_grad=True)
    labels = torch.randint(512, (700,))
    expected = cross_entropy(hidden @ weight.T, labels)
    expected_gradients = torch.autograd.grad(expected, (hidden, weight))
    inputs = tuple(x.detach().to(machine.device).requires_grad_() for x in (hidden, weight))
    with machine.half(half):
        loss = linear_cross_entropy(inputs[0], inputs[1], labels.to(machine.device))
    errors = map(relative, torch.autograd.grad(loss, inputs), expected_gradients)
    return judged(max(relative(loss, expected), *errors), limit)


def gradient_error(
    machine: Machine, reference: nn.Module, ours: nn.Module, batch: dict[str, Tensor], half: bool
) -> float:
    """Of all weights side by side, by transformers' own forward pass and loss."""
    found = []
    for model, device, on in ((reference, torch.device("cpu"), False), (ours, machine.device, half)):
        inputs = {name: x.to(device) for name, x in batch.items()}
        model.zero_grad()
        with kernels():
            with torch.autocast(device.type, torch.bfloat16, enabled=on):
                loss = model(**inputs, labels=inputs["input_ids"], use_cache=False).loss
            loss.backward()
        found.append(torch.cat([x.grad.flatten().float().cpu() for x in model.parameters() if x.grad is not None]))
    return relative(found[1], found[0])


def singular_values(machine: Machine) -> Figures:
    from groundup.pretrain.optimizer import orthogonalize  # needs pydantic

    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 256, 512, device=machine.device)).float())
    return {"least": values.min().item(), "greatest": values.max().item()}
