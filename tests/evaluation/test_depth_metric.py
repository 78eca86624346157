import math

import pytest
import torch
from mmengine.registry import METRICS, init_default_scope

pytest.importorskip('mmseg')
from mmseg.evaluation.metrics import DepthMetric as StockDepthMetric

from mmdysample.evaluation.depth_metric import DepthMetric


def scenes(count=3, height=37, width=53):
    """Depths in metres; a fifth of the truth is unknown, and some is farther than 10 m."""
    for i in range(count):
        truth = 0.5 + 11 * torch.rand(1, height, width)
        truth[torch.rand(truth.shape) < 0.2] = 0
        noise = torch.exp((0.1 + 0.1 * i) * torch.randn(truth.shape) + 0.1)
        yield truth, (truth.clamp(min=1) * noise).clamp(0.001, 10)


def sample(truth, prediction):
    return {'gt_depth_map': {'data': truth}, 'pred_depth_map': {'data': prediction}}


def evaluate(metric, pairs):
    metric.process({}, [sample(*pair) for pair in pairs])
    return metric.compute_metrics(metric.results)


def slow(pairs, rows=slice(None), columns=slice(None)):
    """Pixel after pixel, by the definitions in Eigen et al. (2014) and, for SILog, KITTI's."""
    sums: dict[str, list[float]] = {}
    for truth, prediction in pairs:
        t_list, p_list = (depth[0, rows, columns].double().flatten().tolist() for depth in (truth, prediction))
        pixels = [(t, p) for t, p in zip(t_list, p_list) if 0.001 < t < 10]
        n = len(pixels)
        logs = [math.log(p) - math.log(t) for t, p in pixels]
        mean = sum(logs) / n
        image = {f'd{k}': sum(max(t / p, p / t) < 1.25**k for t, p in pixels) / n for k in (1, 2, 3)}
        image['abs_rel'] = sum(abs(p - t) / t for t, p in pixels) / n
        image['sq_rel'] = sum((p - t) ** 2 / t for t, p in pixels) / n
        image['rmse'] = math.sqrt(sum((p - t) ** 2 for t, p in pixels) / n)
        image['rmse_log'] = math.sqrt(sum(d * d for d in logs) / n)
        image['log10'] = sum(abs(d) for d in logs) / n / math.log(10)
        image['silog'] = 100 * math.sqrt(sum((d - mean) ** 2 for d in logs) / n)
        for name, value in image.items():
            sums.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sums.items()}


ARGUMENTS = dict(min_depth_eval=0.001, max_depth_eval=10.0)


def test_all_nine_by_their_definitions():
    pairs = list(scenes())
    assert evaluate(DepthMetric(**ARGUMENTS), pairs) == pytest.approx(slow(pairs), rel=1e-7)


def test_the_crop_of_eigen():
    pairs = list(scenes(1, 480, 640))
    expected = slow(pairs, slice(45, 471), slice(41, 601))
    assert evaluate(DepthMetric(**ARGUMENTS, crop_type='nyu_crop'), pairs) == pytest.approx(expected, rel=1e-7)


def test_where_mmsegs_differs():
    """In SILog alone: it takes half of the mean away, as the loss does, and prints no percentage."""
    pairs = list(scenes(1))
    ours, theirs = evaluate(DepthMetric(**ARGUMENTS), pairs), evaluate(StockDepthMetric(**ARGUMENTS), pairs)
    assert {name for name in ours if ours[name] != pytest.approx(theirs[name], rel=1e-4)} == {'silog'}
    mean_square = theirs['rmse_log'] ** 2 - (ours['silog'] / 100) ** 2
    assert theirs['silog'] ** 2 == pytest.approx(theirs['rmse_log'] ** 2 - mean_square / 2, rel=1e-4)


def test_a_depth_that_is_right_up_to_its_scale_has_no_silog():
    truth = 1 + torch.rand(1, 9, 11)
    assert evaluate(DepthMetric(), [(truth, 3 * truth)])['silog'] == pytest.approx(0, abs=1e-4)


def test_an_image_without_depth_is_left_out():
    pairs = list(scenes())
    blind = torch.zeros(1, 5, 7), torch.ones(1, 5, 7)
    assert evaluate(DepthMetric(**ARGUMENTS), [pairs[0], blind, *pairs[1:]]) == evaluate(DepthMetric(**ARGUMENTS), pairs)
    assert all(math.isnan(value) for value in evaluate(DepthMetric(**ARGUMENTS), [blind]).values())


def test_an_image_whose_prediction_is_no_number_is_not_left_out():
    truth, prediction = next(scenes(1))
    broken = truth, torch.full_like(prediction, float('nan'))
    assert math.isnan(evaluate(DepthMetric(**ARGUMENTS), [(truth, prediction), broken])['abs_rel'])


def test_by_prefix_in_an_mmseg_config(tmp_path):
    init_default_scope('mmseg')
    metric = METRICS.build(
        dict(type='mmdysample.DepthMetric', depth_metrics=['abs_rel'], output_dir=str(tmp_path), depth_scale_factor=1000)
    )
    assert type(metric) is DepthMetric
    metric.process({}, [{**sample(torch.ones(1, 5, 7), torch.full((1, 5, 7), 1.5)), 'img_path': 'a/b.jpg'}])
    assert metric.compute_metrics(metric.results) == {'abs_rel': 0.5}
    assert (tmp_path / 'b.png').is_file()


def test_a_metric_that_is_none():
    with pytest.raises(ValueError, match='depth_metrics may be d1, .* silog, got AbsRel'):
        DepthMetric(depth_metrics=['AbsRel'])
