"""Read all data of a config, and print what is wrong with it."""

import sys
import time

from mmdysample.engine.errors import exit_on_error

with exit_on_error():
    from mmdysample.datasets.check import check_data, write_shapes
    from mmdysample.datasets.report import contents, print_findings, summary
    from mmdysample.engine.options import make_parser, read_config

SPLITS = ('train', 'val', 'test')


def main() -> None:
    parser = make_parser(f'{__doc__} Takes the same flags as training. Ends with exit code 2 if there are errors.')
    args = parser.parse_args()
    start = time.time()
    with exit_on_error():
        config = read_config(args, SPLITS, check=False)
        write_shapes(config)
        findings = check_data(config, SPLITS, full=True)
    if findings:
        print_findings(findings)
    print(f'{summary(findings) or "clean"}: {contents(config, SPLITS)}; {time.time() - start:.1f} s')
    if any(finding.level == 'error' for finding in findings):
        sys.exit(2)


if __name__ == '__main__':
    main()
