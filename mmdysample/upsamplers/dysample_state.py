"""The buffers of DySample: how they are saved, loaded, converted and copied.

``init_pos`` holds the sampling points for zero offsets. It follows from ``init_position``, so it is computed and never taken from a file.

``scope_bias`` is a bias of the scope layer. The authors' checkpoints from before 2024-03-27 have one under the name ``scope.bias``; later
ones have none. As a buffer of zeros, it can take such a bias in every copy of the module (EMA, DDP). It adds no parameter and, while it is
zero, no key to the state dict.
"""

from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from mmdysample.functional import initial_position

from .base import Upsampler


class DySampleState(Upsampler):
    """The base class of DySample, which owns its buffers."""

    init_pos: Tensor
    scope_bias: Optional[Tensor]
    init_position: str
    groups: int
    scope: Optional[nn.Conv2d]

    def _position(self, device: torch.device, dtype: Optional[torch.dtype] = None) -> Tensor:
        """Return the sampling points for zero offsets, in float32 or wider."""
        wide = torch.promote_types(dtype or torch.float32, torch.float32)
        position = initial_position(self.scale_factor, self.groups, device=device, dtype=wide)
        return position if self.init_position == 'bilinear' else torch.zeros_like(position)

    def _apply(self, fn: Any, recurse: bool = True) -> 'DySampleState':
        # Keep the positions in float32 under `.half()` and `.bfloat16()`, which cannot represent the thirds of scale 3 accurately.
        position = self.init_pos
        super()._apply(fn, recurse)
        if self.init_pos.dtype in (torch.float16, torch.bfloat16):
            self.init_pos = position.to(self.init_pos.device)
        self._restore_exact_position()
        return self

    def _restore_exact_position(self) -> None:
        """Undo the rounding of the positions where they came to float64 from float32, by a conversion or from a checkpoint."""
        if self.init_pos.dtype is torch.float64 and _has_values(self.init_pos):
            exact = self._position(self.init_pos.device, torch.float64)
            if torch.equal(self.init_pos.float(), exact.float()):
                self.init_pos.copy_(exact)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        if 'scope_bias' not in self._buffers:  # pickled when a bias was a constant parameter of the scope layer
            bias = getattr(self.scope, '_parameters', {}).get('bias')
            zeros = None if self.scope is None else self.scope.weight.new_zeros(self.scope.out_channels)
            self.register_buffer('scope_bias', zeros if bias is None else bias.detach(), persistent=False)
            if bias is not None:
                self.scope.bias = None  # type: ignore[union-attr]

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        bias = self.scope_bias
        if bias is not None and _has_values(bias) and bias.any():
            destination[f'{prefix}scope.bias'] = bias if keep_vars else bias.detach()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        weight = state_dict.get(f'{prefix}offset.weight')
        if weight is not None:
            # A checkpoint may omit the positions, because they are never trained.
            position = state_dict.get(f'{prefix}init_pos', self.init_pos)
            if position.shape == self.init_pos.shape:  # another shape is reported by torch
                if f'{prefix}init_pos' in state_dict and _has_values(position):
                    self._take_over_position(position, errors=args[-1])
                state_dict[f'{prefix}init_pos'] = self._position(weight.device, self.init_pos.dtype)
        if self.scope_bias is not None and f'{prefix}scope.weight' in state_dict and getattr(self.scope, 'bias', None) is None:
            self._take_over_scope_bias(state_dict.pop(f'{prefix}scope.bias', None), state_dict[f'{prefix}scope.weight'], errors=args[-1])
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._restore_exact_position()

    def _take_over_position(self, position: Tensor, errors: list[str]) -> None:
        """Set ``init_position`` to that of a checkpoint's positions, or report positions that are neither."""
        before = self.init_position
        for name in (before, *({'bilinear', 'nearest'} - {before})):
            self.init_position = name
            if torch.allclose(position.float(), self._position(position.device), atol=1e-3):
                return
        self.init_position = before
        errors.append(f"init_pos must be that of init_position='bilinear' or 'nearest', got {position.flatten().tolist()[:4]}, ...")

    @torch.no_grad()
    def _take_over_scope_bias(self, bias: Optional[Tensor], weight: Tensor, errors: list[str]) -> None:
        """Copy the bias of a checkpoint's scope layer, or zeros if it has none."""
        own = self.scope_bias
        if bias is None:
            bias = torch.zeros_like(own, device=weight.device)  # type: ignore[arg-type]
        if bias.shape != own.shape:  # type: ignore[union-attr]
            errors.append(f'scope.bias must have the shape {tuple(own.shape)}, got {tuple(bias.shape)}')  # type: ignore[union-attr]
        elif own.is_meta:  # type: ignore[union-attr]
            self.scope_bias = bias.detach().clone()  # nothing can be copied to meta
        else:
            own.copy_(bias)  # type: ignore[union-attr]


def _has_values(t: Tensor) -> bool:
    """Return False for a tensor on meta or a fake one, which has no values to compare."""
    return not t.is_meta and not isinstance(t, FakeTensor)
