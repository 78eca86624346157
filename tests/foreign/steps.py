"""What the tests of Ultralytics do in processes of their own: ``python steps.py STEP ARGUMENT ...`` prints its result as JSON, last.

A step that must not import mmdysample by itself says so.
"""

import contextlib
import copy
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import torch
import ultralytics
from torch import nn
from ultralytics import RTDETR, YOLO
from ultralytics.nn import tasks

NEW = tuple(map(int, ultralytics.__version__.split('.')[:2])) >= (8, 3)
STOCK = 'yolo11n' if NEW else 'yolov8n'  # YOLO11 is in 8.3 and newer


def model(name):
    return (RTDETR if 'rtdetr' in str(name) else YOLO)(str(name))


def options(data, **more):
    # nbs: without it, gradients of 64 images make a step, and these few images make none
    common = {'imgsz': 160, 'batch': 4, 'nbs': 4, 'warmup_epochs': 0, 'workers': 0, 'device': 'cpu', 'plots': False, 'verbose': False}
    return {'data': str(data), 'project': str(Path(data).parent), 'exist_ok': True, **common, **more}


def upsamplers(net):
    """The upsamplers by name: where their class is from, and their largest bias, which is 0 before training."""
    from mmdysample import DySample

    found = {name: module for name, module in net.named_modules() if isinstance(module, DySample)}
    return {name: [type(m).__module__, m.offset.bias.detach().float().abs().max().item()] for name, m in found.items()}


def rows(net, name='DySample'):
    return [row for row in [*net.yaml['backbone'], *net.yaml['head']] if row[2] == name]


def images(data):
    return Path(data).parent / 'images'


def version():
    return ultralytics.__version__


def train(data, name, folder, epochs='2'):
    import mmdysample.ultralytics  # noqa: F401

    heavy = [package for package in ('mmcv', 'mmengine.model') if package in sys.modules]
    yolo = model(name)
    yolo.train(**options(data, epochs=int(epochs), name=folder))
    return {'heavy': heavy, 'upsamplers': upsamplers(yolo.model)}


def load(data, weights):
    """Does not import mmdysample by itself."""
    yolo = model(weights)
    imported = 'mmdysample.ultralytics' in sys.modules
    result = {'imported': imported, 'rows': rows(yolo.model), 'upsamplers': upsamplers(yolo.model)}
    metrics = yolo.val(**options(data, name='val'))
    result['val'] = len(metrics.results_dict)
    result['predicted'] = len(yolo.predict(str(images(data)), imgsz=160, device='cpu', verbose=False))
    return result


def load_safely(*weights):
    import mmdysample.ultralytics  # noqa: F401

    return [upsamplers(model(file).model) for file in weights] if getattr(tasks, 'SAFE_LOAD', False) else []


def fine_tune(data, weights):
    """Does not import mmdysample by itself."""
    yolo = model(weights)
    before = upsamplers(yolo.model)
    yolo.train(**options(data, epochs=1, name='fine', optimizer='SGD', lr0=1e-9))
    return {'before': before, 'after': upsamplers(yolo.model), 'rows': rows(yolo.model)}


def interrupt(data, name):
    import mmdysample.ultralytics  # noqa: F401

    def stop(trainer):
        raise KeyboardInterrupt

    yolo = model(name)
    yolo.add_callback('on_model_save', stop)
    with contextlib.suppress(KeyboardInterrupt):
        yolo.train(**options(data, epochs=2, name='interrupted'))


def resume(weights):
    """Does not import mmdysample by itself."""
    yolo = model(weights)
    before = upsamplers(yolo.model)
    yolo.train(resume=True, device='cpu')
    return {'before': before, 'after': upsamplers(yolo.model), 'epoch': yolo.trainer.start_epoch}


def export(data, weights):
    """The largest difference of each exported file from PyTorch, relative to the largest output. Does not import mmdysample by itself."""
    import cv2
    import onnxruntime

    checkpoint = torch.load(weights, map_location='cpu', weights_only=False)
    net = checkpoint['model'].float()
    for name, weight in net.named_parameters():
        if '.offset.' in name:
            nn.init.normal_(weight, std=0.02)  # large enough that a wrong sampling point changes the output
        if 'score_head' in name and weight.dim() == 2:
            nn.init.normal_(weight, std=0.03)  # hardly trained scores are ties, which each runtime orders differently
    checkpoint['model'] = net
    spread = Path(weights).with_name(f'{Path(weights).stem}-spread.pt')
    torch.save(checkpoint, spread)
    picture = cv2.resize(cv2.imread(str(min(images(data).iterdir()))), (160, 160))
    image = torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = model(spread).model.float().eval()(image)[0]
    differences = {}
    for form, more in {'onnx': {'opset': 18, 'simplify': False}, 'torchscript': {}}.items():
        file = model(spread).export(format=form, imgsz=160, device='cpu', **more)
        if form == 'onnx':
            session = onnxruntime.InferenceSession(file)
            got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])
        else:
            got = torch.jit.load(file)(image)
            got = got[0] if isinstance(got, tuple) else got
        if expected.shape[-1] < expected.shape[-2]:  # detections of RT-DETR, in an order that depends on ties
            distance = torch.cdist(expected[0], got[0], p=float('inf')).min(1).values.max()
        else:
            distance = (expected - got).abs().max()
        differences[form] = float(distance / expected.abs().max())
    return differences


def replace(data, weights):
    yolo = model(weights)
    from mmdysample import replace_upsample, restore_upsample

    stock = copy.deepcopy(rows(yolo.model, 'nn.Upsample'))
    example = torch.zeros(1, 3, 160, 160)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        report = replace_upsample(yolo.model, 'DySample', example)
    written = copy.deepcopy(rows(yolo.model))
    report.undo()
    restored = copy.deepcopy(rows(yolo.model, 'nn.Upsample'))
    replace_upsample(yolo.model, {'type': 'DySample', 'groups': 2}, example)
    with_config = copy.deepcopy(rows(yolo.model))
    restore_upsample(yolo.model)
    replace_upsample(yolo.model, 'DySample', example)
    for name, weight in yolo.model.named_parameters():
        if name.endswith('offset.bias'):
            nn.init.constant_(weight, 0.25)
    torch.save({'model': yolo.model, 'train_args': {'task': yolo.task}, 'epoch': -1}, Path(data).with_name('replaced.pt'))
    yolo.train(**options(data, epochs=1, name='replaced', optimizer='SGD', lr0=1e-5))
    return {
        'warnings': [str(w.message) for w in caught if 'train' in str(w.message)],
        'written': written,
        'restored': restored == [[*row[:3], [None if x == 'None' else x for x in row[3]]] for row in stock],
        'with config': with_config,
        'upsamplers': upsamplers(yolo.model),
    }


def replace_untrained():
    """The warnings of replace_upsample in models that were built from a yaml file."""
    from mmdysample import DySample, replace_upsample

    def warned(config, **options):
        yolo = YOLO(f'{STOCK}.yaml')
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            replace_upsample(yolo.model, config, torch.zeros(1, 3, 64, 64), **options)
        return [str(w.message) for w in caught if 'train' in str(w.message)]

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.conv, self.u, self.out = (
                YOLO(f'{STOCK}.yaml').model,
                nn.Conv2d(3, 8, 1),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(8, 8, 1),
            )

        def forward(self, x):
            self.net(x)
            return self.out(self.u(self.conv(x)))

    said = {config: warned(config) for config in ('DySample', 'CARAFE', 'nearest')}
    said |= {'class': warned(DySample), 'scoped': warned({'type': 'mmdysample.DySample'}), 'one': warned('DySample', exclude='*.11')}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        replace_upsample(Around(), 'DySample', torch.zeros(1, 3, 64, 64), include='u')
    said['around'] = [str(w.message) for w in caught if 'train' in str(w.message)]
    yolo = YOLO(f'{STOCK}.yaml')
    try:
        replace_upsample(yolo, 'DySample', torch.zeros(1, 3, 64, 64))
    except ValueError as error:
        said['wrapper'] = str(error)
    return said


def architecture():
    import yaml

    from mmdysample.ultralytics.plugin import FOLDER

    return yaml.safe_load((FOLDER / f'{STOCK[:-1]}-dysample.yaml').read_text(encoding='utf-8'))


def build(row, scale='n'):
    """A detector whose upsamplers are the given row."""
    plan = architecture()
    plan['scale'] = scale
    for place in plan['head']:
        if place[2] == 'DySample':
            place[:] = copy.deepcopy(row)
    before = copy.deepcopy(plan)
    net = tasks.DetectionModel(plan, verbose=False)
    assert plan['head'] == before['head'], 'the rows are not as written'
    return net


def parse(*sources):
    """For each input, the channels of rows that take it. A direct call of the parser leaves the dict as it is."""
    import mmdysample.ultralytics  # noqa: F401
    from mmdysample.ultralytics.rows import is_row

    results = []
    for source in sources:
        plan = architecture()
        plan['scale'] = 'n'
        written = [row for row in plan['head'] if row[2] == 'DySample']
        for row in written:
            row[0] = int(source)
        layers, _ = tasks.parse_model(plan, ch=3, verbose=False)
        unchanged = written == [[int(source), 1, 'DySample', [2]]] * 2
        results.append([unchanged, [layer.in_channels for layer in layers if is_row(layer)]])
    return results


def build_rows():
    """Each upsampler as a row: copied, saved, and loaded in full and safely."""
    from mmdysample.ultralytics.rows import is_row, row_classes

    image, safe = torch.rand(1, 3, 64, 96), hasattr(tasks, '_SafeLoad')
    built = {}
    for name in row_classes():
        net = build([-1, 1, name, []]).eval()
        file = Path.cwd() / f'{name}.pt'
        torch.save({'model': net, 'train_args': {'task': 'detect'}, 'epoch': -1}, file)
        others = [copy.deepcopy(net), torch.load(file, weights_only=False)['model']]
        if safe:
            others.append(tasks.torch_safe_load(str(file), safe_only=True)[0]['model'])
        with torch.no_grad():
            same = all(torch.equal(net(image)[0], other(image)[0]) for other in others)
            same = same and all(is_row(a) == is_row(b) for other in others for a, b in zip(net.modules(), other.modules()))
        built[name] = [same, [module.in_channels for module in net.model if is_row(module)]]
    return built


def build_arguments(*given):
    """For each row, as JSON: the upsamplers that it builds, or the error."""
    import mmdysample.ultralytics  # noqa: F401
    from mmdysample.ultralytics.rows import is_row

    results = []
    for text in given:
        try:
            net = build(json.loads(text))
            module = next(m for m in net.modules() if is_row(m))
            results.append(f'{type(module).__name__} {module.extra_repr()}')
        except ValueError as error:
            results.append(f'error: {error}')
    return results


def build_scales():
    import mmdysample.ultralytics  # noqa: F401

    names = [f'yolov8{scale}-dysample.yaml' for scale in 'nsmlx'] + ['rtdetr-l-dysample.yaml']
    names += [f'yolo11{scale}-{kind}dysample.yaml' for scale in 'nx' for kind in ('', 'seg-')] if NEW else []
    found = {}
    for name in names:
        net = model(name).model
        stock = model(name.replace('-dysample', '')).model
        plain = {key: value.shape for key, value in stock.state_dict().items()}
        ours = {key: value.shape for key, value in net.state_dict().items() if '.offset.' not in key and not key.endswith('.init_pos')}
        found[name] = [ours == plain, [net.get_submodule(key).in_channels for key in upsamplers(net)]]
    return found


def transform():
    """What is done to a model before it runs: the largest change of its output."""
    import mmdysample.ultralytics  # noqa: F401

    net, image = build([-1, 1, 'DySample', []]).eval(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = net(image)[0]
        fused = (copy.deepcopy(net).fuse()(image)[0] - expected).abs().max()
        halved = (copy.deepcopy(net).half().float()(image)[0] - expected).abs().max()
        compiled = (torch.compile(net, backend='aot_eager')(image)[0] - expected).abs().max()
    return {name: float(value / expected.abs().max()) for name, value in dict(fused=fused, halved=halved, compiled=compiled).items()}


def foreign_class():
    """A class of the user, and one that is registered but no upsampler."""
    import mmdysample.ultralytics  # noqa: F401
    from mmdysample import register_upsampler

    @register_upsampler('Mine')
    class Mine(nn.Upsample):
        guided = False

        def __init__(self, in_channels, scale_factor=2):
            super().__init__(scale_factor=scale_factor)

    @register_upsampler('Other')
    class Other(nn.Identity):
        pass

    return sum(isinstance(module, Mine) for module in build([-1, 1, 'Mine', []]).modules())


def several_processes(data):
    """Run the script that Ultralytics writes for the processes of a training on several GPUs, in one process on the CPU."""
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils import dist

    import mmdysample.ultralytics  # noqa: F401

    yolo = YOLO(f'{STOCK}-dysample.yaml')
    more = {'epochs': 1, 'name': 'processes', 'mode': 'train', 'val': False}
    trainer = DetectionTrainer(overrides={**yolo.overrides, **options(data, **more)}, _callbacks=yolo.callbacks)
    trainer.hub_session = None
    file = dist.generate_ddp_file(trainer)
    subprocess.run([sys.executable, file], check=True, env=os.environ)
    return upsamplers(model(Path(data).parent / 'processes/weights/last.pt').model)


if __name__ == '__main__':
    result = globals()[sys.argv[1]](*sys.argv[2:])
    print(f'\n{json.dumps(result)}')
