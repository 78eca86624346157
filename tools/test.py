"""Evaluate a checkpoint."""

from pathlib import Path

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.engine.checkpoint import check_checkpoint
    from mmdysample.engine.classes import match_to_test
    from mmdysample.engine.fit import check_to_test
    from mmdysample.engine.launch import build_runner, draw_into, save_predictions
    from mmdysample.engine.options import make_parser, read_config
    from mmdysample.engine.report import print_metrics
    from mmdysample.engine.training.record import differences
    from mmdysample.upsamplers.base import ShapeError


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE', help='save the predictions to this .pkl file')
    parser.add_argument('--force', action='store_true', help='overwrite --out if it exists')
    parser.add_argument('--show-dir', metavar='DIR', help='save pictures of the predictions in this folder')
    args = parser.parse_args()
    with exit_on_error():
        config = read_config(args, ('test',), log_to='test')
        check_checkpoint(args.checkpoint)
        for line in match_to_test(config, args.checkpoint):
            print(line)
        config.load_from, config.resume = args.checkpoint, False  # the saved config of a run that was itself resumed
        if args.out:
            save_predictions(config, Path(args.out), args.force)
        if args.show_dir:
            draw_into(config, args.show_dir)
        runner = build_runner(config)
        with runner.unless_refused():
            warning = check_to_test(args.checkpoint, runner.model)
            for line in [] if '://' in args.checkpoint else differences(Path(args.checkpoint), runner):
                print(line)
    with exit_on_error((OSError, ShapeError)):
        metrics = runner.test()
    if runner.rank == 0:
        print_metrics(metrics)
        if warning:
            print(warning)


if __name__ == '__main__':
    main()
