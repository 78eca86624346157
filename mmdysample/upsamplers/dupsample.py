"""DUpsampling as a module: `Decoders Matter for Semantic Segmentation <https://arxiv.org/abs/1903.02120>`_ (Tian et al., CVPR 2019)."""

import zipfile
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

    DUpsampling is designed for the last step of a segmenter, :class:`mmdysample.DUpsampleHead`. There the output channels are classes, and
    ``tools/fit_dupsample.py`` computes the matrix from label maps before training. Between feature maps, the matrix is learned and starts
    as nearest-neighbour upsampling.

    Args:
        in_channels: Channels ``C`` of the map.
        scale_factor: Integer ratio ``s``.
        out_channels: Channels ``K`` of the result. The default is ``in_channels``.
        matrix: A file written by ``tools/fit_dupsample.py``, which is read when mmengine initialises the model (``init_weights()``).
        freeze: Whether the matrix is excluded from training.
        init_cfg: mmengine's initialisation, which overrides nearest-neighbour upsampling; the file overrides both.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: An argument has the wrong type or is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        scale_factor: int = 2,
        out_channels: Optional[int] = None,
        matrix: Optional[str] = None,
        freeze: bool = False,
        init_cfg: Any = None,
        device: Any = None,
        dtype: Optional[torch.dtype] = None,
    ) -> None:
        super().__init__(in_channels, scale_factor, init_cfg)
        (out_channels,) = check_positive(out_channels=in_channels if out_channels is None else out_channels)
        check_bool(freeze=freeze)
        self.out_channels = out_channels
        self.matrix = matrix
        self.expand = nn.Conv2d(self.in_channels, out_channels * self.scale_factor**2, 1, bias=False, device=device, dtype=dtype)
        self.expand.weight.requires_grad_(not freeze)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as nearest-neighbour upsampling of the first ``min(C, K)`` channels; the other output channels start at zero."""
        shared = torch.eye(self.out_channels, self.in_channels).repeat_interleave(self.scale_factor**2, 0)
        self.expand.weight.copy_(shared[:, :, None, None])

    def init_weights(self) -> None:
        """Initialise the matrix when mmengine initialises the model, from the file if one is given.

        Raises:
            ValueError: The file does not exist, or does not hold a matrix of the right shape.
        """
        super().init_weights()
        matrix = self.read_matrix()
        if matrix is not None:
            with torch.no_grad():
                self.expand.weight.copy_(matrix[:, :, None, None])

    def read_matrix(self) -> Optional[Tensor]:
        """Return the matrix ``(K*s*s, C)`` that the file holds, or None if no file is given.

        Raises:
            ValueError: The file does not exist, or does not hold a matrix of the right shape.
        """
        if self.matrix is None:
            return None
        matrix = load_matrix(self.matrix)
        if matrix.shape != self.expand.weight.shape[:2]:
            expected = f'{self.out_channels} * {self.scale_factor}**2 rows, {self.in_channels} columns'
            raise ValueError(f'the matrix must have {expected}, got {tuple(matrix.shape)} in {self.matrix}')
        return matrix

    def upsample(self, x: Tensor) -> Tensor:
        """Upsample a map; the result is ``(B, K, s*H, s*W)``, of the dtype of ``x``."""
        return pixel_shuffle(self.expand(x), self.scale_factor).to(x.dtype)


def load_matrix(path: str) -> Tensor:
    """Return the matrix in a file written by ``tools/fit_dupsample.py``, in float32.

    Raises:
        ValueError: The file does not exist, is damaged, or does not hold such a matrix.
    """
    if not Path(path).is_file():
        raise ValueError(f'there is no matrix file {path}: make one with tools/fit_dupsample.py')
    damaged = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch ignores the checksums
        if not damaged:
            return torch.load(path, map_location='cpu', weights_only=True)['W'].float()
    except Exception as error:  # reading an arbitrary file can raise any exception
        raise ValueError(f'{path} was not written by tools/fit_dupsample.py ({type(error).__name__}): make it again') from error
    raise ValueError(f'{path} is damaged ({damaged}): copy it again, or make it again with tools/fit_dupsample.py')
