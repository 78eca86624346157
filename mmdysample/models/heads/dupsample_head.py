"""A decode head that upsamples its logits by a matrix fitted to labels: `DUpsampling <https://arxiv.org/abs/1903.02120>`_."""

from typing import Any, Optional

import torch
from torch import Tensor, nn

from mmdysample.frameworks import require
from mmdysample.registry import MODELS
from mmdysample.upsamplers import DUpsample
from mmdysample.upsamplers.base import ShapeError
from mmdysample.upsamplers.fit import extend, fits

require('mmseg', 'mmdysample.DUpsampleHead')

from mmseg.models.decode_heads import DepthwiseSeparableASPPHead  # noqa: E402
from mmseg.models.utils import resize  # noqa: E402


@MODELS.register_module()
class DUpsampleHead(DepthwiseSeparableASPPHead):
    """mmseg's DeepLabv3+ head, which stays at the coarse resolution and predicts a code of each ``s x s`` window of labels.

    ::

        low-level map -- c1_bottleneck -- resize down --.
        high-level map -- ASPP ------------------------ concat -- 2 convolutions -- conv_seg -- DUpsample / T
                                                                                    (code)      (logits of s x s pixels)

    DeepLabv3+ instead resizes the high-level map to the low-level one, and interpolates the logits. Here DUpsample decodes the code to
    logits at the size of the image, with a matrix that ``tools/fit_dupsample.py`` fits. The code of a one-hot window decodes to numbers
    near 0 and 1, so the logits are divided by a learned temperature ``T`` before the softmax of the loss.

    Args:
        scale_factor: The ratio ``s`` between the image and the high-level map.
        code_channels: Channels of the code, the same as in ``matrix``.
        matrix: A file saved by ``tools/fit_dupsample.py``. If it is absent, the matrix is learned from scratch.
        freeze_matrix: Whether a fitted matrix is not trained further.
        temperature: The initial value of ``T``. At 1, even a perfect code gives the right one of five classes a probability of only 0.4.
        kwargs: As in mmseg's ``DepthwiseSeparableASPPHead``: ``in_channels``, ``in_index`` (of the high-level map), ``channels``,
            ``c1_in_channels``, ``c1_channels`` (of the first map, the low-level one), ``dilations``, ``num_classes``, ...

    Raises:
        ValueError: An argument is out of its range. ``init_weights`` raises it if the matrix does not fit.
    """

    def __init__(
        self,
        scale_factor: int,
        code_channels: int = 64,
        matrix: Optional[str] = None,
        freeze_matrix: bool = True,
        temperature: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f'temperature must be a positive number, got {temperature}')
        super().__init__(**kwargs)
        self.conv_seg = nn.Conv2d(self.channels, code_channels, 1)
        self.dupsample = DUpsample(code_channels, scale_factor, self.out_channels, matrix, freeze=matrix is not None and freeze_matrix)
        self.temperature = nn.Parameter(torch.tensor(float(temperature)))

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the logits.

        Args:
            inputs: The backbone's maps: the low-level one first, the high-level one ``(B, in_channels, H, W)`` at ``in_index``.

        Returns:
            Logits ``(B, num_classes, s*H, s*W)``.
        """
        x = self._forward_feature(inputs)
        if self.c1_bottleneck is not None:
            low = self.c1_bottleneck(inputs[0])
            low = resize(low, size=x.shape[2:], mode='bilinear', align_corners=self.align_corners)
            x = torch.cat([x, low], dim=1)
        return self.dupsample(self.cls_seg(self.sep_bottleneck(x))) / self.temperature

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Return the losses of the logits, cropped or extended to the size of the labels."""
        size = batch_data_samples[0].gt_sem_seg.data.shape[-2:]
        return super().loss_by_feat(self._fit(seg_logits, size), batch_data_samples)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the logits resized to the images; crop or extend them first, because a backbone rounds sizes."""
        meta = batch_img_metas[0]
        sliding = isinstance(meta['img_shape'], torch.Size)  # mmseg marks sliding-window inference in this way
        size = meta['img_shape'] if sliding else meta.get('pad_shape', meta['img_shape'])
        return super().predict_by_feat(self._fit(seg_logits, size[:2]), batch_img_metas)

    def _fit(self, logits: Tensor, size: tuple[int, ...]) -> Tensor:
        s = self.dupsample.scale_factor
        if not fits(s, [made // s for made in logits.shape[2:]], size):
            raise ShapeError(
                f'scale_factor={s} makes logits of {tuple(logits.shape[2:])} for an image of {tuple(size)}: '
                'it must be the stride of the high-level map'
            )
        missing = [max(0, wanted - made) for wanted, made in zip(size, logits.shape[2:])]
        return (extend(logits, *missing) if any(missing) else logits)[:, :, : size[0], : size[1]]
