"""Convert requests to generations for the engine; impossible requests are refused before any computation."""

import secrets
from dataclasses import dataclass

import torch

from groundup.app.serve.batch import Generation
from groundup.app.serve.errors import ApiError, invalid, too_long
from groundup.app.serve.requests import ChatRequest, CompletionRequest
from groundup.app.serve.served import ServedModel
from groundup.app.serve.settings import Settings
from groundup.core.decoding import Decoding
from groundup.core.decoding.history import fit_prompt
from groundup.core.formats.chat_format import document_ends, encode_text, render
from groundup.core.formats.hashing import hash_integer


@dataclass(frozen=True)
class Plan:
    model: ServedModel
    generations: list[Generation]  # of the first prompt, then of the next ones
    num_prompt_tokens: int  # each prompt once
    num_dropped: int  # messages dropped to fit the context


def plan_chat(request: ChatRequest, model: ServedModel, settings: Settings) -> Plan:
    messages = [{"role": message.role, "content": message.text} for message in request.messages]
    num_dropped = 0
    try:
        if request.truncation == "auto":
            reserved = request.wanted_tokens or min(settings.max_tokens, model.context_length // 2)
            fitted = fit_prompt(model.tokenizer, messages, model.context_length - reserved)
            prompt, num_dropped = fitted.ids, fitted.num_dropped + fitted.cut
        else:
            prompt = render(model.tokenizer, messages, reply_next=True)
    except ValueError as error:  # such as two user messages in a row, which some templates refuse
        raise invalid(str(error), "messages") from None
    max_new_tokens = _room(prompt, "messages", request, model, settings)
    return Plan(model, _generations(request, [prompt], [max_new_tokens]), len(prompt), num_dropped)


def plan_completion(request: CompletionRequest, model: ServedModel, settings: Settings) -> Plan:
    start = document_ends(model.tokenizer)[0]
    prompts = [[start, *encode_text(model.tokenizer, text)] for text in request.prompts]
    rooms = [_room(prompt, "prompt", request, model, settings) for prompt in prompts]
    return Plan(model, _generations(request, prompts, rooms), sum(map(len, prompts)), 0)


def check_limits(request: ChatRequest | CompletionRequest, model: ServedModel, settings: Settings) -> None:
    """What can be refused without a look at the text."""
    if request.num_replies > settings.max_choices:
        num_prompts = request.num_prompts
        asked = f"n is {request.n}" if num_prompts == 1 else f"{num_prompts} prompts with n {request.num_choices}"
        raise invalid(f"{asked}: this server gives at most {settings.max_choices} replies to a request", "n")
    wanted = request.wanted_tokens
    if wanted is not None and wanted > settings.max_tokens:
        raise invalid(f"max_tokens is {wanted}: this server gives at most {settings.max_tokens}", "max_tokens")
    # a prompt has at least bos, both markers of a user turn and the assistant marker
    if wanted is not None and wanted > model.context_length - 4:
        raise too_long(
            f"max_tokens is {wanted}, and the context of {model.name} has {model.context_length} tokens, prompt "
            "included: ask for less",
            "max_tokens",
        )


def _room(
    prompt: list[int],
    param: str,
    request: ChatRequest | CompletionRequest,
    model: ServedModel,
    settings: Settings,
) -> int:
    """Maximum length of the reply."""
    room = model.context_length - len(prompt)
    remedy = "; truncation: auto leaves out the oldest" if param == "messages" else ""
    size = f"the {param} take {len(prompt)} tokens" if param == "messages" else f"a prompt takes {len(prompt)} tokens"
    size += f" and the context of {model.name} has {model.context_length}, reply included"
    if room < 1:
        raise too_long(f"{size}: shorten the {param}{remedy}", param)
    wanted = request.wanted_tokens
    if wanted is not None and wanted > room:
        raise too_long(
            f"{size}, so max_tokens can be {room} at most, not {wanted}: lower it or shorten the {param}{remedy}",
            param,
        )
    return wanted or min(settings.max_tokens, room)


def _generations(
    request: ChatRequest | CompletionRequest, prompts: list[list[int]], max_new_tokens: list[int]
) -> list[Generation]:
    settings = sampling(
        temperature=request.token_temperature,
        top_k=request.top_k or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        min_p=request.min_p or 0.0,
        repetition_penalty=request.repetition_penalty or 1.0,
    )
    seed = secrets.randbits(63) if request.seed is None else request.seed
    # The first reply uses the seed itself, so that it does not depend on n.
    seeds = [seed, *(hash_integer(seed, "choice", str(i)) for i in range(1, len(prompts) * request.num_choices))]
    generations = []
    for i, choice_seed in enumerate(seeds):
        prompt, length = prompts[i // request.num_choices], max_new_tokens[i // request.num_choices]
        generator = torch.Generator().manual_seed(choice_seed)
        uniforms = torch.rand(length, generator=generator, dtype=torch.float64)
        generations.append(Generation(tuple(prompt), settings, length, request.num_top, uniforms))
    return generations


def sampling(temperature: float, top_k: int, top_p: float, min_p: float, repetition_penalty: float) -> Decoding:
    """Equal objects for equal sampling settings, so that one call samples them all; the search settings are unused."""
    return Decoding(
        method="sample",
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=0,
        max_new_tokens=1,
        num_beams=1,
        n=1,
        keep=1,
        depth=1,
        budget_tokens=1,
        pessimism=0.0,
    )


def find_model(name: str, models: dict[str, ServedModel]) -> ServedModel:
    if name not in models:
        raise ApiError(404, f"unknown model {name!a}: choose {', '.join(models)}", "model_not_found", "model")
    return models[name]
