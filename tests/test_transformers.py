"""Models of transformers, saved by ``save_pretrained`` and loaded with their upsamplers, in the environment of ``make test-foreign``."""

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

from mmdysample import DySample, list_upsamplers, replace_upsample, restore_upsample, upsample_recipe
from mmdysample.upsamplers.builder import resolve

transformers = pytest.importorskip('transformers', reason='make test-foreign has an environment with transformers')
hub = pytest.importorskip('mmdysample.transformers')

IMAGE = torch.randn(1, 3, 64, 64)
STAGES = ['stage1', 'stage2', 'stage3', 'stage4']


def segformer():
    config = transformers.SegformerConfig(depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1] * 4, decoder_hidden_size=32)
    return transformers.SegformerForSemanticSegmentation(config)


def swin():
    return transformers.SwinConfig(embed_dim=16, depths=[1] * 4, num_heads=[1] * 4, window_size=2, image_size=64, out_features=STAGES)


def maskformer():
    decoder = transformers.DetrConfig(
        d_model=32, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, encoder_layers=1, num_queries=5
    )
    config = transformers.MaskFormerConfig(backbone_config=swin(), decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32)
    return transformers.MaskFormerForInstanceSegmentation(config)


def mask2former():
    config = transformers.Mask2FormerConfig(
        backbone_config=swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=5,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config)


def rt_detr():
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1] * 4, layer_type='basic', out_features=STAGES[1:]
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[32, 48, 64],
        encoder_hidden_dim=32,
        d_model=32,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        decoder_layers=1,
        num_queries=10,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_in_channels=[32] * 3,
    )
    return transformers.RTDetrForObjectDetection(config)


def dpt():
    config = transformers.DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16] * 4,
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    return transformers.DPTForDepthEstimation(config)


def upernet():
    backbone = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=STAGES)
    config = transformers.UperNetConfig(backbone_config=backbone, hidden_size=16, auxiliary_channels=16, auxiliary_in_channels=24)
    return transformers.UperNetForSemanticSegmentation(config)


MODELS = {
    build.__name__: (build, sites)
    for build, sites in ((segformer, 3), (maskformer, 3), (mask2former, 1), (rt_detr, 2), (dpt, 5), (upernet, 6))
}


def replaced(build=segformer, cfg='DySample+'):
    """Return a replaced model in evaluation mode, with weights far from their initial ones."""
    torch.manual_seed(0)
    model = build().eval()
    report = replace_upsample(model, cfg, {'pixel_values': IMAGE})
    for p in model.parameters():
        nn.init.normal_(p, std=0.1)
    for module in model.modules():
        if isinstance(module, DySample):
            nn.init.normal_(module.offset.weight, std=0.3)
    return model, report


def outputs(model):
    with torch.no_grad():
        out = model(pixel_values=IMAGE.to(model.dtype))
    return {name: value for name, value in out.items() if isinstance(value, torch.Tensor)}


def difference(model, other):
    ours, theirs = outputs(model), outputs(other)
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


CHILD = """
import sys
import torch
import transformers
from mmdysample.transformers import from_pretrained

for folder in sys.argv[1:]:
    kind, image, expected = torch.load(f'{folder}/expected.pth')
    with torch.no_grad():
        out = from_pretrained(getattr(transformers, kind), folder)(pixel_values=image)
    print('largest difference', max((out[name] - value).abs().max().item() for name, value in expected.items()))
"""


@pytest.mark.slow
def test_equal_outputs_in_a_new_process(tmp_path, capsys):
    folders = []
    for name, (build, sites) in MODELS.items():
        model, report = replaced(build)
        assert len(report.replaced) == sites
        stock = copy.deepcopy(model)
        restore_upsample(stock)
        assert difference(model, stock) > 0
        folders.append(tmp_path / name)
        model.save_pretrained(folders[-1])
        torch.save((type(model).__name__, IMAGE, outputs(model)), folders[-1] / 'expected.pth')
    done = subprocess.run([sys.executable, '-c', CHILD, *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('largest')]
    with capsys.disabled():
        print('', *(f'{name}: {line}' for name, line in zip(MODELS, lines)), sep='\n')
    assert lines == ['largest difference 0.0'] * len(MODELS)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A SegFormer, and the folder that it was saved in."""
    model, _ = replaced()
    folder = tmp_path_factory.mktemp('saved')
    model.save_pretrained(folder)
    return model, folder


SEGFORMER = transformers.SegformerForSemanticSegmentation


@pytest.mark.parametrize(
    'options',
    [{}, {'low_cpu_mem_usage': True}, {'device_map': 'cpu'}, {'output_loading_info': True}, {'config': 'the object'}],
    ids=['plain', 'low_cpu_mem_usage', 'device_map', 'info', 'config'],
)
@pytest.mark.parametrize('cls', [SEGFORMER, transformers.AutoModelForSemanticSegmentation], ids=['class', 'auto'])
def test_the_options_of_transformers(saved, cls, options):
    model, folder = saved
    if 'config' in options:
        options = {'config': transformers.AutoConfig.from_pretrained(folder)}
    other = hub.from_pretrained(cls, folder, **options)
    other = other[0] if 'output_loading_info' in options else other
    assert difference(model, other) == 0
    assert type(other) is SEGFORMER
    assert not any(module.training for module in other.modules() if isinstance(module, DySample))
    assert all(p.requires_grad for p in other.parameters())
    assert not any(t.is_meta for t in (*other.parameters(), *other.buffers()))
    other.train()(pixel_values=IMAGE, labels=torch.zeros(1, 64, 64, dtype=torch.long)).loss.backward()
    assert all(p.grad is not None for name, p in other.named_parameters() if 'upsample_modules' in name)


def test_a_loaded_model_can_be_pickled(saved):
    """Before its first run: transformers then adds a hook that pickle refuses, also to a stock model."""
    model, folder = saved
    assert difference(model, pickle.loads(pickle.dumps(hub.from_pretrained(SEGFORMER, folder)))) == 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize('name', ['dtype', 'torch_dtype'])
def test_another_dtype(saved, dtype, name):
    model, folder = saved
    other = hub.from_pretrained(SEGFORMER, folder, **{name: dtype})
    expected = copy.deepcopy(model).to(dtype)
    assert {key: value.dtype for key, value in other.state_dict().items()} == {k: v.dtype for k, v in expected.state_dict().items()}
    assert difference(expected, other) == 0


def test_the_dtype_of_the_folder(tmp_path):
    model, _ = replaced()
    model.half().save_pretrained(tmp_path)
    other = hub.from_pretrained(SEGFORMER, tmp_path)
    assert other.dtype == torch.float16
    assert difference(model, other) == 0


def in_old_format(model, folder):
    model.save_pretrained(folder)
    (folder / 'model.safetensors').unlink()
    torch.save(model.state_dict(), folder / 'pytorch_model.bin')


@pytest.mark.parametrize(
    'save',
    [
        lambda model, folder: model.save_pretrained(folder, max_shard_size='50KB'),
        lambda model, folder: model.save_pretrained(folder, safe_serialization=False),
        lambda model, folder: copy.deepcopy(model).save_pretrained(folder),
        in_old_format,
    ],
    ids=['shards', 'safe_serialization', 'copy', 'bin'],
)
def test_the_ways_to_save(saved, save, tmp_path):
    model, _ = saved
    save(model, tmp_path)
    other = hub.from_pretrained(SEGFORMER, tmp_path)
    assert difference(model, other) == 0
    other.save_pretrained(tmp_path / 'again')
    assert difference(model, hub.from_pretrained(SEGFORMER, tmp_path / 'again')) == 0


@pytest.mark.parametrize('cfg', [name for name in list_upsamplers() if not getattr(resolve(name)[1], 'guided', False)])
def test_every_upsampler(cfg, tmp_path):
    model, _ = replaced(cfg=cfg)
    model.save_pretrained(tmp_path)
    assert difference(model, hub.from_pretrained(SEGFORMER, tmp_path)) == 0


class Enlarged(SEGFORMER):
    """A model that owns an upsampler itself."""

    def forward(self, pixel_values):
        out = super().forward(pixel_values=pixel_values)
        out['logits'] = F.interpolate(out.logits, scale_factor=2)
        return out


def test_the_model_itself_is_an_owner(tmp_path):
    torch.manual_seed(0)
    config = segformer().config
    config.num_labels = 8
    model = Enlarged(config).eval()
    assert len(replace_upsample(model, 'DySample', IMAGE, include='Enlarged').replaced) == 1
    model.save_pretrained(tmp_path)
    other = hub.from_pretrained(Enlarged, tmp_path)
    assert difference(model, other) == 0
    assert type(restore_upsample(other)) is Enlarged


def upsampler_warnings(function):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        result = function()
    return result, [str(warning.message) for warning in caught if 'upsamplers' in str(warning.message)]


def test_a_plain_from_pretrained_warns(saved, tmp_path):
    _, folder = saved
    for cls in (SEGFORMER, transformers.AutoModelForSemanticSegmentation):
        other, (warning,) = upsampler_warnings(lambda cls=cls: cls.from_pretrained(folder))
        assert 'their trained weights were dropped: load it with mmdysample.transformers.from_pretrained' in warning
    _, (warning,) = upsampler_warnings(lambda: replace_upsample(other, 'DySample', IMAGE))
    assert 'their trained weights were dropped' in warning
    other, _ = upsampler_warnings(lambda: SEGFORMER.from_pretrained(folder))
    other.save_pretrained(tmp_path)  # a stock model now
    assert 'mmdysample' not in json.loads((tmp_path / 'config.json').read_text())
    assert upsampler_warnings(lambda: SEGFORMER.from_pretrained(tmp_path))[1] == []


def test_the_config_follows_the_model(tmp_path):
    model, report = replaced()
    assert model.config.mmdysample == report.recipe
    twin = copy.deepcopy(model)
    report.undo()
    assert not hasattr(model.config, 'mmdysample')
    assert twin.config.mmdysample == upsample_recipe(twin)
    # One config of two models, and only a part of a model replaced.
    first = rt_detr().eval()
    replace_upsample(first.model, 'DySample', IMAGE)
    second, _ = upsampler_warnings(lambda: type(first)(first.config))
    upsampler_warnings(lambda: replace_upsample(second, 'CARAFE', IMAGE))
    first.save_pretrained(tmp_path)
    assert difference(first, hub.from_pretrained(transformers.RTDetrForObjectDetection, tmp_path)) == 0


class Own(nn.Upsample):
    guided = False

    def __init__(self, scale_factor):
        super().__init__(scale_factor=scale_factor)


def test_an_upsampler_without_a_name_warns():
    report, (warning,) = upsampler_warnings(lambda: replace_upsample(segformer(), Own, IMAGE))
    assert 'save_pretrained will not save the upsamplers of SegformerForSemanticSegmentation' in warning
    assert 'register_upsampler' in warning
    assert len(report.replaced) == 3


def without(model, folder, ending):
    model.save_pretrained(folder, state_dict={name: value for name, value in model.state_dict().items() if not name.endswith(ending)})


def of_another_shape(model, folder):
    state = model.state_dict()
    state['decode_head.upsample_modules.0.offset.bias'] = torch.ones(3)
    model.save_pretrained(folder, state_dict=state)


def edited(model, folder, edit):
    model.save_pretrained(folder)
    config = json.loads((folder / 'config.json').read_text())
    edit(config)
    (folder / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize(
    ('save', 'message'),
    [
        (lambda m, f: segformer().save_pretrained(f), 'the config has no recipe of upsamplers: load this SegformerFor'),
        (lambda m, f: without(m, f, '0.offset.bias'), 'missing: decode_head.upsample_modules.0.offset.bias, decode_head'),
        (lambda m, f: without(m, f, 'classifier.weight'), 'missing: decode_head.classifier.weight'),
        (of_another_shape, 'of another shape: decode_head.upsample_modules.0.offset.bias'),
        (lambda m, f: edited(m, f, lambda c: c['mmdysample'].update(format=7)), 'upgrade mmdysample'),
        (lambda m, f: edited(m, f, lambda c: c['mmdysample']['modules']['decode_head'].pop()), 'left over: decode_head.upsample_modules.2'),
    ],
    ids=['stock', 'missing', 'other missing', 'shape', 'newer', 'left over'],
)
def test_a_folder_that_does_not_fit(saved, save, message, tmp_path):
    model, _ = saved
    save(model, tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        hub.from_pretrained(SEGFORMER, tmp_path, ignore_mismatched_sizes=True)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_another_number_of_classes(saved):
    _, folder = saved
    model = hub.from_pretrained(SEGFORMER, folder, num_labels=5, ignore_mismatched_sizes=True)
    assert model(pixel_values=IMAGE).logits.shape[1] == 5
    with pytest.raises(ValueError, match="belongs to another model: SegformerModel has no module 'decode_head'"):
        hub.from_pretrained(transformers.SegformerModel, folder)


@pytest.mark.parametrize('cls', ['folder', nn.Conv2d, transformers.SegformerConfig])
def test_another_class_is_refused(saved, cls):
    _, folder = saved
    with pytest.raises(ValueError, match='needs a class of a model of transformers, or an AutoModel class, before the folder, got'):
        hub.from_pretrained(cls, folder)


class Scenes(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {'pixel_values': IMAGE[0] + i, 'labels': torch.full((64, 64), i % 2)}


@pytest.mark.slow
def test_trainer_checkpoints_and_resuming(tmp_path, monkeypatch):
    pytest.importorskip('accelerate')
    monkeypatch.setattr('transformers.trainer.is_datasets_available', lambda: False)  # tests/datasets is no such library

    def trainer(model, steps, best=False):
        options = {'eval_strategy': 'steps', 'eval_steps': 1, 'load_best_model_at_end': best, 'report_to': [], 'use_cpu': True}
        arguments = transformers.TrainingArguments(
            tmp_path, max_steps=steps, save_steps=1, per_device_train_batch_size=2, learning_rate=0.01, disable_tqdm=True, **options
        )
        return transformers.Trainer(model=model, args=arguments, train_dataset=Scenes(), eval_dataset=Scenes())

    # Not SegFormer: transformers 5.23 saves its weights under their old names, which Trainer does not find when it resumes a stock model.
    model, _ = replaced(upernet)
    kind = transformers.UperNetForSemanticSegmentation
    before = copy.deepcopy(model.state_dict())
    first = trainer(model, 2, best=True)
    first.train()
    first.save_model(tmp_path / 'best')
    assert all((before[name] != p).any() for name, p in model.named_parameters() if 'upsample_modules' in name)
    assert difference(model.eval(), hub.from_pretrained(kind, tmp_path / 'best')) == 0

    last = os.fspath(tmp_path / 'checkpoint-2')
    expected = hub.from_pretrained(kind, last)
    for resumed in (replaced(upernet)[0], hub.from_pretrained(kind, tmp_path / 'checkpoint-1')):
        trainer(resumed, 2).train(resume_from_checkpoint=last)  # no step is left
        assert difference(expected, resumed.eval()) == 0
    further = trainer(resumed, 3)
    further.train(resume_from_checkpoint=last)
    assert further.state.global_step == 3
    with pytest.raises(ValueError, match="parameter group that doesn't match"):
        trainer(upernet(), 3).train(resume_from_checkpoint=last)
