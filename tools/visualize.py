"""Draw pictures of a model: its sampling points, its upsampled feature maps, or its predictions."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.engine.files import check_out
    from mmdysample.engine.options import add_options, read_config

if TYPE_CHECKING:
    from mmengine.config import Config

    from mmdysample.pictures.loaded_model import LoadedModel
    from mmdysample.pictures.picture import Picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    pictures = parser.add_subparsers(dest='picture', required=True, metavar='{sampling,features,predictions}')

    sampling = _add(pictures, 'sampling', 'the sampling points of a DySample for chosen pixels, and its scope', draw_sampling)
    _add_image(sampling, index=True)
    sampling.add_argument(
        '--module', metavar='NAME', help='the DySample to draw, e.g. neck.upsample_modules.0 (default: that of the finest map)'
    )
    sampling.add_argument(
        '--pixels',
        nargs='+',
        type=parse_pixel,
        metavar='x,y',
        help='pixels of the image (default: where its gradient is largest and smallest)',
    )

    features = _add(pictures, 'features', 'a feature map upsampled by several upsamplers, in the colours of one PCA', draw_features)
    _add_image(features, index=True)
    features.add_argument('--module', metavar='NAME', help='the upsampler whose input is drawn (default: that of the finest map)')
    features.add_argument(
        '--upsamplers',
        nargs='+',
        default=['nearest', 'bilinear', 'CARAFE', 'DySample'],
        metavar='NAME',
        help="upsamplers to compare with the model's own; they are untrained (default: nearest bilinear CARAFE DySample)",
    )

    predictions = _add(pictures, 'predictions', 'ground truth, and the predictions of one model or two models', draw_predictions)
    _add_image(predictions, index=False)
    predictions.add_argument(
        '--against', nargs=2, metavar=('CONFIG2', 'CHECKPOINT2'), help='a second model; --upsampler and --cfg-options change only the first'
    )
    predictions.add_argument('--count', type=int, choices=range(1, 13), metavar='1..12', default=6, help='number of images (default: 6)')
    predictions.add_argument(
        '--score', type=parse_score, metavar='0..1', default=0.5, help='smallest score of the detections drawn (default: 0.5)'
    )

    args = parser.parse_args()
    with exit_on_error():
        from mmdysample.pictures.loaded_model import load_model
        from mmdysample.pictures.picture import check_format

        if args.out:
            check_format(args.out)
        config = read_config(args, ())
        out = Path(args.out or Path(config.work_dir) / f'{args.picture}.png')
        check_out(out, args.force)
        if args.picture == 'predictions' and args.checkpoint:
            set_classes(config, args.checkpoint, with_truth=args.image is None)
        loaded = load_model(config, args.checkpoint)
        picture = args.draw(loaded, args)
        picture.save(out)
    print(f'picture: {out}')
    if loaded.warning:
        print(loaded.warning)


def set_classes(config: 'Config', checkpoint: str, with_truth: bool) -> None:
    """Let the classes of a config be those of a checkpoint, if they can be compared with the classes of the annotations."""
    from mmdysample.engine.checkpoint import check_checkpoint
    from mmdysample.engine.classes import match_to_test, take_classes

    check_checkpoint(checkpoint)
    if with_truth:
        for line in match_to_test(config, checkpoint, all_occur=True):
            print(line)
    else:
        take_classes(config, checkpoint)


def draw_sampling(loaded: 'LoadedModel', args: argparse.Namespace) -> 'Picture':
    from mmdysample.pictures import sampling

    return sampling.draw_sampling(loaded, args.image, args.index, args.module, args.pixels)


def draw_features(loaded: 'LoadedModel', args: argparse.Namespace) -> 'Picture':
    from mmdysample.pictures import features

    return features.draw_features(loaded, args.image, args.index, args.module, args.upsamplers)


def draw_predictions(loaded: 'LoadedModel', args: argparse.Namespace) -> 'Picture':
    from mmdysample.engine.config import load_config
    from mmdysample.pictures import predictions
    from mmdysample.pictures.loaded_model import load_model

    against = None
    if args.against:
        config = load_config(args.against[0])  # load_model would reset --trust-checkpoint for a path
        set_classes(config, args.against[1], with_truth=False)  # the images and annotations are those of the first config
        against = load_model(config, args.against[1])
    return predictions.draw_predictions(loaded, against, args.image, args.count, args.score)


def parse_pixel(text: str) -> tuple[int, int]:
    """Return the pixel of a text such as ``12,34``."""
    parts = text.split(',')
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f'takes x,y, two non-negative integers, got {text}')
    return int(parts[0]), int(parts[1])


def parse_score(text: str) -> float:
    """Return the number of a text, which must be from 0 to 1."""
    try:
        score = float(text)
    except ValueError:
        score = float('nan')
    if not 0 <= score <= 1:
        raise argparse.ArgumentTypeError(f'takes a number from 0 to 1, got {text}')
    return score


def _add(
    pictures: 'argparse._SubParsersAction[argparse.ArgumentParser]',
    name: str,
    what: str,
    draw: Callable[['LoadedModel', argparse.Namespace], 'Picture'],
) -> argparse.ArgumentParser:
    parser = pictures.add_parser(name, help=what, description=f'Draw {what}.')
    add_options(parser)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file (default: none, draw an untrained model)')
    parser.add_argument(
        '--out', metavar='FILE', help=f'picture to save: .png, .jpg, .pdf or .svg (default: {name}.png in the work directory)'
    )
    parser.add_argument('--force', action='store_true', help='overwrite --out if it exists')
    parser.set_defaults(draw=draw)
    return parser


def _add_image(parser: argparse.ArgumentParser, index: bool) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument('--image', metavar='FILE', help="image file (default: images of the config's test set)")
    if index:
        group.add_argument('--index', type=int, default=0, metavar='N', help='index of the image in the test set (default: 0)')


if __name__ == '__main__':
    main()
