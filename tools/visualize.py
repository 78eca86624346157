"""Draw ground truth, predictions and DySample's sampling points for a few images of the test set."""

from pathlib import Path

from mmdysample.engine.checkpoint import check_checkpoint, check_fit
from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.launch import build_runner
from mmdysample.engine.options import make_parser, read_config

FORMATS = ('.png', '.jpg', '.pdf', '.svg')


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', default=None, metavar='FILE', help='picture to save (default: predictions.png in the work folder)')
    parser.add_argument('--count', type=int, choices=range(1, 13), metavar='1..12', default=6, help='how many images (default: 6)')
    parser.add_argument('--score', type=float, default=0.5, help='show detections from this score on (default: 0.5)')
    args = parser.parse_args()
    with exit_on_error():
        config = read_config(args, ('test',), log_to='test')
        if not config.get('visualizer'):
            raise ValueError(f'{args.config} has no visualizer, which draws the predictions')
        config.visualizer.vis_backends = None  # the one picture is all that is saved
        check_checkpoint(args.checkpoint)
        if args.out and not args.out.lower().endswith(FORMATS):
            raise ValueError(f'--out must end in one of {", ".join(FORMATS)}, got {args.out}')
        config.load_from = args.checkpoint
        runner = build_runner(config)
        warning = check_fit(args.checkpoint, runner.model)
    from mmdysample.analysis.predictions import draw_predictions

    runner.load_or_resume()
    out = Path(args.out or Path(config.work_dir).parent / 'predictions.png')
    draw_predictions(runner, out, args.count, args.score)
    print(f'picture: {out}')
    if warning:
        print(warning)


if __name__ == '__main__':
    main()
