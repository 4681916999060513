"""A GPU that is not there: tensors that say cuda, hold their values on the CPU, and raise where they meet CPU tensors.

FakeTensorMode has no values, and loops that end on a value cannot run in it. What this cannot show either: kernels,
speed, memory, determinism.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
COPIES = {"_to_copy", "copy_"}  # that is what they are for
INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}  # by places on either device
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}  # for all that the GPU has to do
DEVICE_OF: dict[Any, Any] = {
    Tensor.device.__get__: CUDA,
    Tensor.is_cuda.__get__: True,
    Tensor.is_cpu.__get__: False,
}


class OnGpu(Tensor):
    """Its `held` has the values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        made: OnGpu = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=CPU,  # autograd of a build without CUDA would end the process over any other
        )
        made.held = held.detach()
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DEVICE_OF:
            return DEVICE_OF[func]
        with torch._C.DisableTorchFunctionSubclass():  # which would make results on the CPU members of this class
            return func(*args, **kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def __repr__(self, *unused: Any, **more: Any) -> str:
        return f"OnGpu({self.held!r})"

    def __array__(self, *unused: Any, **more: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def numpy(self, *unused: Any, **more: Any) -> Any:
        return self.__array__()

    def tolist(self) -> Any:
        waits["tolist"] += 1
        return self.held.tolist()


waits: Counter[str] = Counter()  # by operator


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator some of whose tensors are on the GPU."""
    name = func.overloadpacket.__name__
    # Formulas of autograd make tensors by the options of others, which say cpu here and would say cuda there.
    in_backward = torch._C._current_graph_task_id() != -1
    if not in_backward:
        check_devices(name, args, kwargs)
    if name in WAITS:
        waits[name] += 1
    device = None if in_backward else kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": CPU}
    if name == "copy_" and not in_backward:
        stays = isinstance(args[0], OnGpu)
    else:
        stays = device is None or torch.device(device).type == "cuda"

    def held(x: Any) -> Any:
        return x.held if isinstance(x, OnGpu) else x

    def put(x: Any) -> Any:
        return OnGpu(x) if isinstance(x, Tensor) and stays else x

    out = tree_map(put, func(*tree_map(held, args), **tree_map(held, kwargs)))
    if not stays or in_backward:
        return out
    return return_and_correct_aliasing(func, args, kwargs, out)


def check_devices(name: str, args: Any, kwargs: dict[str, Any]) -> None:
    """RuntimeError as CUDA raises it; a CPU tensor of one number may take part anywhere."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    elsewhere = [x for x in tensors if not isinstance(x, OnGpu) and x.dim() > 0]
    if not elsewhere or name in COPIES:
        return
    if name not in INDEXING:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")
    if not isinstance(args[0], OnGpu):
        raise RuntimeError(f"{name}: indices on cuda:0 of a tensor on the CPU")
    if "put" in name and any(x is args[2] for x in elsewhere):
        raise RuntimeError(f"{name}: values on the CPU for a tensor on cuda:0")


class _Move(torch.autograd.Function):
    """To the other device, and the gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.held.clone() if isinstance(x, OnGpu) else OnGpu(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.held.clone() if isinstance(gradient, OnGpu) else OnGpu(gradient.clone())


def moved(x: Tensor, device: torch.device) -> Tensor:
    if isinstance(x, OnGpu) == (device.type == "cuda"):
        return x
    waits[f"to {device.type}"] += 1
    there: Tensor = _Move.apply(x)
    return there


class CudaInCalls(TorchFunctionMode):
    """`device="cuda"` and the moves, which a build for the CPU would refuse before any operator is reached."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        match func:
            case Tensor.cpu:
                return moved(args[0], CPU)
            case Tensor.cuda:
                return moved(args[0], CUDA)
            case Tensor.pin_memory:
                return args[0]
            case Tensor.to:
                return self._to(args[0], list(args[1:]), kwargs)
        device = kwargs.get("device")
        if func is torch._C._nn.pad_sequence and isinstance(args[0][0], OnGpu):  # it makes its result by itself
            return OnGpu(func([x.held for x in args[0]], *args[1:], **kwargs))
        if device is None or torch.device(device).type != "cuda":
            return func(*args, **kwargs)
        if any(isinstance(x, OnGpu) for x in tree_leaves(args)):  # new_zeros, zeros_like: their result is there anyway
            del kwargs["device"]
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": CPU})
        return tree_map(lambda x: moved(x, CUDA) if isinstance(x, Tensor) else x, made)

    def _to(self, x: Tensor, rest: list[Any], kwargs: dict[str, Any]) -> Tensor:
        device = kwargs.get("device")
        if rest and isinstance(rest[0], str | torch.device):
            device = rest.pop(0)
        elif rest and isinstance(rest[0], Tensor):
            device, rest[0] = rest[0].device, rest[0].dtype
        if device is not None:
            x = moved(x, torch.device(device))
        dtypes = [value for value in [*rest, kwargs.get("dtype")] if isinstance(value, torch.dtype)]
        return Tensor.to(x, dtypes[0]) if dtypes else x  # a copy or not, and when it is made, changes no value


def put(module: nn.Module) -> nn.Module:
    """module.to("cuda"), in place; weights that are shared stay shared."""
    made: dict[int, Tensor] = {}
    for part in module.modules():
        tables: list[dict[str, Any]] = [part._parameters, part._buffers]
        for tensors in tables:
            for name, x in tensors.items():
                if x is None or isinstance(x, OnGpu):
                    continue
                if id(x) not in made:
                    there = OnGpu(x.detach().clone())
                    made[id(x)] = nn.Parameter(there, x.requires_grad) if isinstance(x, nn.Parameter) else there
                tensors[name] = made[id(x)]
    return module


def _as_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Of a function whose first argument names a kind of device."""
    return lambda kind="cpu", *args, **kwargs: function("cpu" if kind == "cuda" else kind, *args, **kwargs)


@contextmanager
def pretend_gpu() -> Iterator[Counter[str]]:
    """Within, there is a device cuda. Yields how often each kind of thing waited for it."""
    with ExitStack() as stack:
        for name, value in (("is_available", True), ("is_bf16_supported", True), ("device_count", 1)):
            stack.enter_context(mock.patch.object(torch.cuda, name, return_value=value))
        for name in ("is_autocast_enabled", "get_autocast_dtype", "autocast"):
            stack.enter_context(mock.patch.object(torch, name, _as_cpu(getattr(torch, name))))
        stack.enter_context(CudaInCalls())
        waits.clear()
        yield waits
