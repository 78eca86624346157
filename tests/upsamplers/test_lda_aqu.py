import pytest
import torch
from conftest import assert_parity, golden_cases
from upsampler_tests import UpsamplerTests

from mmdysample.upsamplers import LDAAQU


class TestLDAAQU(UpsamplerTests):
    name = 'LDA-AQU'
    reach_of_a_pixel = None  # with random weights, points lie anywhere
    starts_still = ('conv_offset.3.weight',)

    @pytest.mark.parametrize('dtype', [torch.bfloat16])  # nine points take 20 s to compile
    def test_compiled_under_autocast_it_trains_as_in_eager_mode(self, dtype):
        super().test_compiled_under_autocast_it_trains_as_in_eager_mode(dtype)


@pytest.mark.parametrize(('case', 'golden'), golden_cases('golden_lda_aqu.npz'))
def test_parity_with_the_authors_implementation(case, golden):
    arguments = {name: value for name, value in case['kwargs'].items() if name != 'scale_factor'}
    module = LDAAQU(case['channels'], case['scale_factor'], **arguments)
    assert sum(p.numel() for p in module.parameters()) == case['parameters']
    golden = {key: value[0, :, 0] if value.dim() == 5 else value for key, value in golden.items()}  # the table of position biases
    assert_parity(module, golden)


def test_loads_the_table_of_the_authors():
    source, module = LDAAQU(32, nh=2), LDAAQU(32, nh=2)
    state = source.state_dict()
    name = 'relative_position_bias_table'
    module.load_state_dict({**state, name: state[name][None, :, None]})
    torch.testing.assert_close(module.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize(('reduction', 'count'), [(4, 39_410), (8, 19_970), (16, 10_250)])
def test_parameters(reduction, count):
    assert sum(p.numel() for p in LDAAQU(256, reduction_factor=reduction).parameters()) == count


def test_a_constant_map_gets_darker_at_its_border():
    """As released: the points outside read zeros and keep their weight."""
    module = LDAAQU(32)
    for layer in (module.proj_q, module.proj_k):
        torch.nn.init.zeros_(layer.weight)
    y = module(torch.ones(1, 32, 8, 8))[0, 0]
    assert y[8, 8].item() == pytest.approx(1)
    # Half of the nine points of an edge lie on it, and three lie (h - 1) / (s * h - 1) of a pixel outside.
    outside = 1 - 7 / 15
    assert y[0, 8].item() == pytest.approx((6 + 3 * outside) / 9, rel=1e-4)
    assert y[0, 0].item() == pytest.approx((4 + 4 * outside + outside**2) / 9, rel=1e-4)


@pytest.mark.parametrize(('nh', 'n_groups'), [(1, 2), (2, 1), (2, 4), (4, 2), (3, 2)])
def test_any_heads_and_groups_pixel_by_pixel(nh, n_groups):
    """Against the definition, one output pixel at a time."""
    module = LDAAQU(96, nh=nh, n_groups=n_groups, range_factor=2).double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = torch.randn(1, 96, 3, 4).double()
    normed = module.layer_norm(x)
    query, key = (
        torch.nn.functional.interpolate(module.proj_q(normed), size=(6, 8), mode='bilinear', align_corners=True),
        module.proj_k(normed),
    )
    offset = module.predict_offset(query).view(n_groups, 9, 2, 6, 8)
    expected = torch.zeros(96, 6, 8).double()
    for i in range(6):
        for j in range(8):
            keys, values = [], []
            for n in range(9):
                read = lambda m, c: at(m[0, c], *(p * (a - 1) / (b - 1) for p, a, b in zip(place, (3, 4), (6, 8))))  # noqa: E731, B023
                keys.append([]), values.append([])
                for group in range(n_groups):
                    place = (i + offset[group, n, 0, i, j], j + offset[group, n, 1, i, j])
                    for m, rows in ((key, keys), (x, values)):
                        width = m.shape[1] // n_groups
                        rows[-1] += [read(m, c) for c in range(group * width, (group + 1) * width)]
            keys, values = (torch.tensor(rows).double().view(9, nh, -1) for rows in (keys, values))
            keys = keys + module.relative_position_bias_table.transpose(0, 1)
            logits = (keys * query[0, :, i, j].view(nh, -1)).sum(2) / keys.shape[2] ** 0.5
            expected[:, i, j] = (logits.softmax(0)[..., None] * values).sum(0).flatten()
    torch.testing.assert_close(module(x)[0], expected)


def at(plane, row, column):
    """The bilinear value at a position, with zeros outside."""
    value = 0.0
    for i in (int(row.floor()), int(row.floor()) + 1):
        for j in (int(column.floor()), int(column.floor()) + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                value += plane[i, j].item() * (1 - abs(row.item() - i)) * (1 - abs(column.item() - j))
    return value


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'reduction_factor': 5}, r'in_channels must be divisible by reduction_factor \* nh'),
        ({'n_groups': 3}, 'in_channels / reduction_factor by n_groups, got in_channels=32, reduction_factor=4, nh=1, n_groups=3'),
        ({'k_u': 2}, 'k_u must be odd, got 2'),
        ({'range_factor': 0}, 'range_factor must be a positive number, got 0'),
        ({'rpb': 'no'}, "rpb must be True or False, got 'no'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LDAAQU(32, **arguments)
