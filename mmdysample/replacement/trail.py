"""Follow the results of ``F.interpolate`` through a run of a model, to what the model returns."""

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from torch import Tensor, nn

Calls = frozenset[int]  # indices of calls of F.interpolate in a run


class Trail:
    """The tensors that were computed from the result of a call without a trained layer.

    A call is followed through every function of torch whose arguments include no parameter, and no tensor computed from parameters alone,
    such as a normalised weight. A frozen layer counts as a trained one, and so does a sum or product with a parameter. If such a tensor is
    in what the model returns, the result of the call leaves the model: nothing corrects it afterwards, as is usual for class maps, depth
    maps and other predictions. ``x + conv(x)`` counts as corrected. A result that a trained layer reads, and that the model also returns,
    leaves it.

    Some paths are not seen: through ``autograd.Function``, scripted code, custom operators and numpy. A call on such a path does not count
    as leaving the model. Neither does a call whose result is only in an object without ``__dict__``.

    The run must trace gradients from the inputs of the model and not from its parameters, so that ``requires_grad`` distinguishes maps from
    weights.
    """

    def __init__(self) -> None:
        # For each tensor that depends on calls: those that reached it without a trained layer, and those that passed one. The tensors are
        # kept, because Python could give the id of a deleted one to another.
        self._calls: dict[int, tuple[Tensor, Calls, Calls]] = {}
        self._weights: dict[int, Tensor] = {}

    def follow(self, func: Any, args: Sequence, kwargs: dict[str, Any], out: Any, begins: Optional[int] = None) -> None:
        """Note the results of a function.

        Args:
            func: The function.
            args: Its arguments.
            kwargs: Its keyword arguments.
            out: What it returned.
            begins: The index of the call of ``F.interpolate``, if ``func`` is that.
        """
        given = list(_tensors((args, kwargs)))
        direct, corrected = self._calls_of(given)
        trained = any(isinstance(x, nn.Parameter) or id(x) in self._weights for x in given)
        if trained:
            direct, corrected = frozenset(), corrected | direct
        if begins is not None:
            direct |= {begins}
        constant = trained and not any(x.requires_grad for x in given)
        if not (direct or corrected or constant):
            return
        for x in (args[0],) if func is Tensor.__setitem__ else _tensors(out):
            self._calls[id(x)] = x, direct - corrected, corrected
            if constant:
                self._weights[id(x)] = x

    def ends_in(self, out: Any) -> Calls:
        """Return the indices of the calls whose results are in what a model returned."""
        found = [self._calls[id(x)][1] for x in _tensors(out, set()) if id(x) in self._calls]
        return frozenset().union(*found)

    def _calls_of(self, given: list[Tensor]) -> tuple[Calls, Calls]:
        found = [self._calls[id(x)][1:] for x in given if id(x) in self._calls]
        return frozenset().union(*(direct for direct, _ in found)), frozenset().union(*(corrected for _, corrected in found))


def _tensors(value: Any, seen: Optional[set[int]] = None) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples, sets and dicts, and in the attributes of objects if a set ``seen`` is given."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, set, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item, seen)
    elif seen is not None and hasattr(value, '__dict__') and not isinstance(value, (nn.Module, type)) and id(value) not in seen:
        seen.add(id(value))
        yield from _tensors(vars(value), seen)
