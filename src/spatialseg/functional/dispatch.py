"""The one place that decides between a kernel compiled for the CPU and tensor operations: PyTorch's dispatcher.

What has a kernel is an operator of PyTorch: for tensors on the CPU it runs the kernel, for all others its definition in
tensor operations, to which the kernel is equal. A compiled graph calls the operator as a whole. What is left to do with
a few numbers per image is done in NumPy on the CPU, whose calls cost less; see `quick`.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from typing import Any, List, TypeVar  # noqa: UP035

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
Floats = List[float]  # noqa: UP006
"""Of an operator's definition: PyTorch 2.5 does not know `list[float]` there."""

_library: Any = torch.library.Library("spatialseg", "DEF")  # type: ignore[no-untyped-call]


def operator(name: str, definition: Function, kernel: Function, mutates: tuple[str, ...] = ()) -> Function:
    """Make an operator, without gradient.

    Args:
        name: Of the operator, in the namespace `spatialseg`.
        definition: What it computes, in tensor operations, without a copy to the host.
        kernel: The same for tensors on the CPU, of the same arguments. Neither returns an argument or a view of one.
        mutates: The arguments that are written to.

    Returns:
        The operator, called like the definition.
    """
    _library.define(name + torch.library.infer_schema(definition, mutates_args=mutates))
    _library.impl(name, definition, "CompositeExplicitAutograd")
    _library.impl(name, kernel, "CPU")
    op: Function = getattr(torch.ops.spatialseg, name).default
    return op


def per_image(kernel: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call a kernel once for each image of a batch, on `torch.get_num_threads()` threads, this one among them.

    Args:
        kernel: What is called.
        arguments: Of tensors, the first of them the batch's, each call gets the image's part as a NumPy array, of 0 and
            1 for a boolean one; a contiguous one can be written to. All else it gets as it is.

    Returns:
        What each call returned.
    """
    columns: list[Any] = [_as_array(each) if isinstance(each, Tensor) else repeat(each) for each in arguments]
    threads = min(len(columns[0]), torch.get_num_threads())
    if threads == 1:
        return list(map(kernel, *columns))
    results = [None] * len(columns[0])
    calls = enumerate(zip(*columns, strict=False))  # shared: each thread takes the next when it is free

    def work() -> None:
        for image, parts in calls:
            results[image] = kernel(*parts)  # without the GIL

    helpers = [_pool(torch.get_num_threads() - 1).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        wait(helpers)
    for helper in helpers:
        helper.result()
    return results


def _as_array(tensor: Tensor) -> NDArray[Any]:
    if tensor.requires_grad:
        tensor = tensor.detach()
    return (tensor.view(torch.uint8) if tensor.dtype is torch.bool else tensor).contiguous().numpy()


def gathered(results: list[Any], dtype: Any) -> Tensor:  # noqa: ANN401
    """Return a tensor of what `per_image` returned, of a NumPy type: (N,), or a row for each number, (M, N)."""
    return torch.from_numpy(np.array(results, dtype).T.copy())


def quick(tensor: Tensor) -> Any:  # noqa: ANN401
    """Return the NumPy view of a tensor on the CPU, and any other tensor as it is."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


@contextmanager
def one_thread() -> Iterator[None]:
    """Give each operation of PyTorch one thread: on small images more wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that are kept, for starting them takes as long as a small image does."""
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of the threads
