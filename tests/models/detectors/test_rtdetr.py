import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

pytest.importorskip('mmdet')
from mmdet.structures import DetDataSample

TWIN = ROOT / 'configs/shapes/rtdetr_r18_dysample_shapes.py'


def build(**changes):
    init_default_scope('mmdet')
    config = Config.fromfile(TWIN)
    config.merge_from_dict(changes)
    model = MODELS.build(dict(config.model, _scope_='mmdet'))
    model.init_weights()
    return model


def batch():
    images = [torch.randint(0, 255, (3, 96, 128), dtype=torch.uint8) for _ in range(2)]
    samples = []
    for boxes in ([[10, 20, 50, 60], [60, 50, 120, 90]], [[30, 10, 80, 80]]):
        sample = DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128), scale_factor=(1, 1), img_id=len(samples)))
        sample.gt_instances = InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.arange(len(boxes)))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def test_the_encoder_returns_what_the_neck_made():
    """The maps of the neck, one row a pixel, are the memory that the queries are selected from; no trained weight is left over."""
    model = build().eval()
    data = model.data_preprocessor(batch())
    seen = {}
    model.neck.register_forward_hook(lambda _, __, outs: seen.update(outs=outs))
    stock = model.pre_decoder
    model.pre_decoder = lambda memory, **others: seen.update(memory=memory) or stock(memory=memory, **others)
    model(**data, mode='tensor')
    expected = torch.cat([out.flatten(2).transpose(1, 2) for out in seen['outs']], dim=1)
    assert expected.shape == (2, 12 * 16 + 6 * 8 + 3 * 4, 256)
    assert torch.equal(seen['memory'], expected)
    assert not list(model.encoder.parameters())


def test_one_step_moves_every_weight():
    model = build().train()
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
    data, losses = batch(), []
    for _ in range(3):
        total, logged = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert {name: p.grad is not None for name, p in model.named_parameters()} == {
        name: name != 'level_embed' for name, _ in model.named_parameters()
    }
    assert {'loss_cls', 'd0.loss_bbox', 'enc_loss_iou', 'dn_loss_cls', 'd0.dn_loss_iou'} <= logged.keys()
    assert losses[2] < losses[0]

    found = model.eval()(**model.data_preprocessor(batch()), mode='predict')
    assert [len(sample.pred_instances) for sample in found] == [30, 30]


def test_the_names_are_dinos():
    """A checkpoint of the same size of mmdet's DINO fits, but for its encoder and neck."""
    from mmdet.models.detectors import DINO

    config = Config.fromfile(TWIN).model
    encoder = dict(num_layers=1, layer_cfg=dict(self_attn_cfg=dict(embed_dims=256, num_levels=3), ffn_cfg=dict(embed_dims=256)))
    init_default_scope('mmdet')
    stock = MODELS.build(dict(config, type='DINO', encoder=encoder, positional_encoding=dict(num_feats=128), _scope_='mmdet'))
    assert type(stock) is DINO
    names = {name for name in stock.state_dict() if not name.startswith('encoder.')}
    assert names == build().state_dict().keys()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.encoder': dict(num_layers=6)}, 'the neck of RTDETR is its encoder, so encoder must not be given'),
        ({'model.decoder.layer_cfg.self_attn_cfg.embed_dims': 128}, 'encodes boxes for embed_dims=256 only, got 128'),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
