"""A clock and a machine for tests of benchmarks."""

from mmdysample.benchmark.environment import Environment

CPU = Environment('AMD EPYC 7B13', 'cpu', '2.13.0+cpu', 'float32', False, False, 2, '', '2025-01-31')


class FakeClock:
    """Time that passes by the calls: the first takes 1 ms, the second 2 ms, ..."""

    def __init__(self):
        self.now = 0.0

    def __call__(self, call):
        call()
        self.now += 1.0
        return self.now
