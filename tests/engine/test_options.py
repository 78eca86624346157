"""--cfg-options: what mmengine reads, but for texts with spaces or commas."""

import argparse

import pytest

pytest.importorskip('mmengine')

from mmdysample.engine.options import Options


def parse(*values):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    return parser.parse_args(['--cfg-options', *values]).cfg_options


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/my data/train', '/my data/train'),
        ("'/my data/train'", '/my data/train'),
        ("'/a, b (c)/d'", '/a, b (c)/d'),
        ('"/a,b"', '/a,b'),
        ("/a user's/data dir", "/a user's/data dir"),
        ('/plain', '/plain'),
        ("'AdamW'", 'AdamW'),
        ('3', 3),
        ("'3'", 3),
        ('None', None),
        ('a,b', ['a', 'b']),
        ('1, 2', [1, 2]),
        ('[1, 2]', [1, 2]),
        ("'[1, 2]'", [1, 2]),
        ('[(a, b), (c, d)]', [('a', 'b'), ('c', 'd')]),
        ('', ''),
        ('a=b c', 'a=b c'),
    ],
)
def test_values(text, value):
    assert parse(f'x.y={text}', 'z=1') == {'x.y': value, 'z': 1}


def test_a_text_alone_and_what_is_no_pair(capsys):
    assert parse('x=a b') == {'x': 'a b'}
    with pytest.raises(SystemExit, match='2'):
        parse('a b')
    assert '--cfg-options takes KEY=VALUE pairs' in capsys.readouterr().err
