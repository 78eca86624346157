"""Follow the results of ``F.interpolate`` through a run of a model, to what the model returns."""

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from torch import Tensor, nn


class Trail:
    """The tensors that were computed from the result of a call without a trained layer.

    A call is followed through every function of torch whose arguments include no parameter, and no tensor computed from parameters alone,
    such as a normalised weight. A frozen layer counts as a trained one, and so does a sum or product with a parameter. If such a tensor is
    in what the model returns, the result of the call leaves the model: nothing corrects it afterwards, as is usual for class maps, depth
    maps and other predictions.

    Some paths are not seen: through ``autograd.Function``, scripted code, custom operators and numpy. A call on such a path does not count
    as leaving the model. Neither does a call whose result is only in an object without ``__dict__``.

    The run must trace gradients from the inputs of the model and not from its parameters, so that ``requires_grad`` distinguishes maps from
    weights.
    """

    def __init__(self) -> None:
        # The tensors are kept, because Python could give the id of a deleted one to another.
        self._from_calls: dict[int, tuple[Tensor, frozenset[int]]] = {}
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
        calls = self._calls(given) | (frozenset() if begins is None else {begins})
        trained = any(isinstance(x, nn.Parameter) or id(x) in self._weights for x in given)
        if not calls and not trained:
            return
        constant = not any(x.requires_grad for x in given)
        for x in (args[0],) if func is Tensor.__setitem__ else _tensors(out):
            if trained:
                self._from_calls.pop(id(x), None)  # the function may have changed one in place
                if constant:
                    self._weights[id(x)] = x
            else:
                self._from_calls[id(x)] = x, calls

    def ends_in(self, out: Any) -> frozenset[int]:
        """Return the indices of the calls whose results are in what a model returned."""
        return self._calls(_tensors(out, set()))

    def _calls(self, given: Any) -> frozenset[int]:
        nothing: tuple[None, frozenset[int]] = (None, frozenset())
        return frozenset().union(*(self._from_calls.get(id(x), nothing)[1] for x in given))


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
