"""Evaluate a checkpoint."""

from pathlib import Path

from mmengine.config import Config

from mmdysample.engine.checkpoint import check_checkpoint
from mmdysample.engine.errors import exit_on_error
from mmdysample.engine.launch import build_runner
from mmdysample.engine.options import make_parser, read_config
from mmdysample.engine.report import print_metrics


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE', help='save the predictions to a .pkl file')
    parser.add_argument('--show-dir', metavar='DIR', help='save drawings of the predictions')
    args = parser.parse_args()
    with exit_on_error():
        config = read_config(args, ('test',), log_to='test')
        check_checkpoint(args.checkpoint)
        config.load_from = args.checkpoint
        if args.out:
            dump_predictions(config, args.out)
        if args.show_dir:
            draw_predictions(config, args.show_dir)
        runner = build_runner(config)
    metrics = runner.test()
    if runner.rank == 0:
        print_metrics(metrics)


def dump_predictions(config: Config, path: str) -> None:
    """Add an evaluator that saves the predictions."""
    if not path.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out must end in .pkl, got {path}')
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    config.test_evaluator = [*evaluators, dict(type='DumpResults', out_file_path=path)]


def draw_predictions(config: Config, folder: str) -> None:
    """Let the framework's visualisation hook draw into a folder."""
    folder = str(Path(folder).resolve())
    hook = config.default_hooks.get('visualization')
    if not hook:
        raise ValueError(f'--show-dir needs a visualization hook, and {config.filename} has none in default_hooks')
    hook.draw = True
    if config.get('default_scope') == 'mmdet':
        hook.test_out_dir = folder
    else:
        config.visualizer.save_dir = folder
        hook.interval = 1


if __name__ == '__main__':
    main()
