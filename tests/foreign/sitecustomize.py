"""What Ultralytics needs of torchvision, where its binary does not fit the installed torch (a CPU build beside torchvision of PyPI).

Python runs this file in every process that has this folder in PYTHONPATH.
"""

import torch


def nms(boxes, scores, iou_threshold):
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order, kept = scores.argsort(descending=True), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low, high = torch.max(boxes[best, :2], boxes[order, :2]), torch.min(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        order = order[shared <= iou_threshold * (area[best] + area[order] - shared)]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.long)


try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    operators = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
        operators.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    operators.impl('nms', nms, 'CPU')
