"""Train a model and evaluate it during training."""

from pathlib import Path
from urllib.error import URLError

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmengine.runner import Runner

    from mmdysample.engine.fit import check_to_resume, check_to_start
    from mmdysample.engine.launch import build_runner, check_resume, check_unchanged, set_amp, set_deterministic, set_resume
    from mmdysample.engine.options import make_parser, read_config
    from mmdysample.engine.report import LastMetrics, print_metrics
    from mmdysample.engine.training.last_checkpoint import last_checkpoint
    from mmdysample.engine.training.record import RecordRuns, differences
    from mmdysample.engine.training.repeatable import why_not_repeatable
    from mmdysample.engine.training.resume import EvaluateFirst
    from mmdysample.upsamplers.base import ShapeError


# Part of the error message that torch raises for an operation without a deterministic algorithm.
NOT_DETERMINISTIC = 'does not have a deterministic implementation'


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='resume from the latest complete checkpoint in the work directory, or from PATH',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='use a fixed seed (randomness.seed, or 0) and deterministic algorithms, so that a run can be repeated exactly',
    )
    args = parser.parse_args()
    with exit_on_error():
        config = read_config(args, ('train', 'val'))
        found = set_resume(config, args.resume)
        if args.amp:
            set_amp(config)
        if args.deterministic:
            set_deterministic(config)
        check_resume(config)
        runner = build_runner(config, to_train=True)
        with runner.unless_refused():
            check_unchanged(runner, found)
            if config.get('resume'):
                check_to_resume(config.load_from, runner.model)
                runner.register_hook(EvaluateFirst())
                for line in differences(Path(config.load_from), runner):
                    print(line)
            elif config.get('load_from') and (warning := check_to_start(config.load_from, runner.model)):
                print(warning)
            if reason := why_not_repeatable(runner):
                print(reason)
    last = LastMetrics()
    runner.register_hook(last)
    runner.register_hook(RecordRuns())
    with exit_on_error((OSError, ShapeError)):
        train(runner)
        if runner.rank == 0:
            if last.metrics is not None:
                print_metrics(last.metrics)
            if not last.trained:
                print('this training was complete already')
            work_dir = Path(config.work_dir)
            print(f'checkpoint: {last_checkpoint(work_dir) or "none was saved"}')
            print(f'config:     {work_dir / Path(args.config).name}\nlog:        {runner.log_dir}')


def train(runner: Runner) -> None:
    try:
        runner.train()
    except URLError as error:
        raise OSError(
            f'the pretrained weights of the config cannot be downloaded ({error.reason}); '
            'train without them with --cfg-options model.backbone.init_cfg=None'
        ) from error
    except ModuleNotFoundError as error:
        if error.name != 'torchvision':
            raise
        raise OSError(
            'the pretrained weights of the config (torchvision://...) need torchvision, which is not installed; '
            'install it, or train without them with --cfg-options model.backbone.init_cfg=None'
        ) from error
    except RuntimeError as error:
        if NOT_DETERMINISTIC not in str(error):
            raise
        raise OSError(f'{str(error).split(". ")[0]}: leave out --deterministic, or the layer that uses this operation') from error


if __name__ == '__main__':
    main()
