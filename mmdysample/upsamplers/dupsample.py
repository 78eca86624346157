"""DUpsampling as a module: `Decoders Matter for Semantic Segmentation <https://arxiv.org/abs/1903.02120>`_ (Tian et al., CVPR 2019)."""

from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.functional import pixel_shuffle

from .base import Upsampler, check_bool, check_positive
from .registration import register_upsampler


@register_upsampler()
class DUpsample(Upsampler):
    """Upsample ``(B, C, H, W)`` to ``(B, K, s*H, s*W)`` by one matrix: a 1x1 convolution to ``K*s*s`` channels, and pixel shuffle.

    Made for the last step of a segmenter, where the output channels are classes and the matrix is computed from label maps beforehand
    (``tools/fit_dupsample.py``, :class:`mmdysample.DUpsampleHead`). Between feature maps it is a learned linear map, which starts as
    nearest neighbours.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        out_channels: Channels ``K`` of the result; by default those of the map.
        matrix: A file of ``tools/fit_dupsample.py``, read when mmengine initialises the model (``init_weights()``).
        freeze: Whether the matrix stays as it is in training.
        init_cfg: mmengine's initialisation, in place of nearest neighbours; the file wins over both.

    Raises:
        ValueError: An argument is out of its range; in ``init_weights``, the file does not hold a matrix of the right shape.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        out_channels: Optional[int] = None,
        matrix: Optional[str] = None,
        freeze: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        out_channels = in_channels if out_channels is None else out_channels
        check_positive(out_channels=out_channels)
        check_bool(freeze=freeze)
        self.out_channels = out_channels
        self.matrix = matrix
        self.expand = nn.Conv2d(in_channels, out_channels * scale_factor**2, 1, bias=False)
        self.expand.weight.requires_grad_(not freeze)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as nearest neighbours, of as many channels as there are on both sides."""
        shared = torch.eye(self.out_channels, self.in_channels).repeat_interleave(self.scale_factor**2, 0)
        self.expand.weight.copy_(shared[:, :, None, None])

    def init_weights(self) -> None:
        """Initialise when mmengine initialises the model: from the file, if there is one."""
        super().init_weights()
        matrix = self.read_matrix()
        if matrix is not None:
            with torch.no_grad():
                self.expand.weight.copy_(matrix[:, :, None, None])

    def read_matrix(self) -> Optional[Tensor]:
        """Read ``W``, ``(K*s*s, C)``, from the file, if there is one.

        Raises:
            ValueError: The file does not hold a matrix of the right shape.
        """
        if self.matrix is None:
            return None
        matrix = load_matrix(self.matrix)
        if matrix.shape != self.expand.weight.shape[:2]:
            expected = f'{self.out_channels} * {self.scale_factor}**2 rows, {self.in_channels} columns'
            raise ValueError(f'the matrix must have {expected}, got {tuple(matrix.shape)} in {self.matrix}')
        return matrix

    def forward(self, x: Tensor) -> Tensor:
        """Upsample.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, K, s*H, s*W)``.

        Raises:
            ValueError: ``x`` has another number of dimensions or channels.
        """
        self.check_map(x)
        return pixel_shuffle(self.expand(x), self.scale_factor).to(x.dtype)


def load_matrix(path: str) -> Tensor:
    """Read ``W`` from a file of ``tools/fit_dupsample.py``.

    Raises:
        ValueError: There is no such file, or it holds something else.
    """
    if not Path(path).is_file():
        raise ValueError(f'there is no matrix {path}: make one with tools/fit_dupsample.py')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
        return content['W'].float()
    except Exception as error:  # a file from elsewhere can fail in any way
        raise ValueError(f'{path} holds no matrix of tools/fit_dupsample.py ({type(error).__name__})') from error
