import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample

from mmdysample import DUpsampleHead

ARGUMENTS = dict(
    in_channels=32,
    in_index=3,
    channels=16,
    dilations=(1, 2),
    c1_in_channels=8,
    c1_channels=4,
    num_classes=5,
    scale_factor=8,
    code_channels=12,
    norm_cfg=dict(type='BN'),
)


@pytest.fixture(autouse=True)
def _mmseg():
    init_default_scope('mmseg')


def maps():
    return tuple(torch.randn(2, c, *size) for c, size in ((8, (16, 20)), (16, (8, 10)), (24, (4, 5)), (32, (4, 5))))


def samples(height, width):
    return [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 5, (1, height, width)))) for _ in range(2)]


def test_logits_at_the_size_of_the_image():
    head = DUpsampleHead(**ARGUMENTS)
    head.init_weights()
    assert head(maps()).shape == (2, 5, 32, 40)
    assert DUpsampleHead(**{**ARGUMENTS, 'c1_in_channels': 0, 'c1_channels': 0})(maps()).shape == (2, 5, 32, 40)


def test_low_level_features_matter_and_come_down():
    head = DUpsampleHead(**ARGUMENTS).eval()
    for p in head.parameters():
        torch.nn.init.normal_(p, std=0.3)
    low, *rest = maps()
    seen = []
    head.sep_bottleneck.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert not torch.allclose(head((low, *rest)), head((low + 1, *rest)))
    assert seen[0] == (2, 16 + 4, 4, 5)


def test_the_loss_crops_what_the_backbone_rounded_up():
    """Logits of 32x40 for labels of 31x37: the first pixel of one is the first of the other, so nothing is interpolated."""
    head = DUpsampleHead(**ARGUMENTS)
    labels = samples(31, 37)
    logits = torch.randn(2, 5, 32, 40)
    expected = torch.nn.functional.cross_entropy(logits[:, :, :31, :37], torch.cat([s.gt_sem_seg.data for s in labels]))
    torch.testing.assert_close(head.loss_by_feat(logits, labels)['loss_ce'], expected)
    for meta in (dict(img_shape=(31, 37)), dict(img_shape=(20, 20), pad_shape=(31, 37, 3)), dict(img_shape=torch.Size((31, 37)))):
        torch.testing.assert_close(head.predict_by_feat(logits, [meta, meta]), logits[:, :, :31, :37])


def test_what_the_backbone_rounded_down_repeats_the_last_row_and_column():
    """Logits of 32x40 for labels of 35x41."""
    head, labels, logits = DUpsampleHead(**ARGUMENTS), samples(35, 41), torch.randn(2, 5, 32, 40)
    rows, columns = (torch.arange(n).clamp(max=most) for n, most in ((35, 31), (41, 39)))
    extended = logits[:, :, rows][:, :, :, columns]
    expected = torch.nn.functional.cross_entropy(extended, torch.cat([s.gt_sem_seg.data for s in labels]))
    torch.testing.assert_close(head.loss_by_feat(logits, labels)['loss_ce'], expected)
    meta = dict(img_shape=(35, 41))
    torch.testing.assert_close(head.predict_by_feat(logits, [meta, meta]), extended)


def test_everything_learns_but_a_fitted_matrix(tmp_path):
    path = tmp_path / 'matrix.pth'
    matrix = torch.randn(5 * 64, 12)
    torch.save({'W': matrix}, path)
    for arguments, frozen in ((dict(), False), (dict(matrix=str(path)), True), (dict(matrix=str(path), freeze_matrix=False), False)):
        head = DUpsampleHead(**ARGUMENTS, **arguments)
        head.init_weights()
        if arguments:
            torch.testing.assert_close(head.dupsample.expand.weight[:, :, 0, 0], matrix)
        sum(value for key, value in head.loss(maps(), samples(32, 40), {}).items() if 'loss' in key).backward()
        without = [name for name, p in head.named_parameters() if p.grad is None]
        assert without == (['dupsample.expand.weight'] if frozen else [])
        assert head.temperature.grad.abs() > 0


def test_the_temperature_divides_the_logits():
    head = DUpsampleHead(**ARGUMENTS).eval()
    inputs = maps()
    before = head(inputs)
    assert head.temperature == 0.1
    head.temperature.data.fill_(0.05)
    torch.testing.assert_close(head(inputs), 2 * before)
    with pytest.raises(ValueError, match='temperature must be a positive number, got 0'):
        DUpsampleHead(**ARGUMENTS, temperature=0)


@pytest.mark.parametrize('size', [(16, 20), (32, 49), (24, 40)])
def test_a_scale_factor_that_is_not_the_stride(size):
    head = DUpsampleHead(**ARGUMENTS)
    with pytest.raises(ValueError, match=r'scale_factor=8 makes logits of \(32, 40\) for an image of .*: it must be the stride'):
        head.loss_by_feat(torch.zeros(2, 5, 32, 40), samples(*size))


def test_a_matrix_for_other_classes(tmp_path):
    path = tmp_path / 'matrix.pth'
    torch.save({'W': torch.zeros(4 * 64, 12)}, path)
    with pytest.raises(ValueError, match=r'the matrix must have 5 \* 8\*\*2 rows, 12 columns, got \(256, 12\)'):
        DUpsampleHead(**ARGUMENTS, matrix=str(path)).init_weights()
