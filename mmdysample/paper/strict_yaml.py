"""Read YAML strictly: numbers keep their digits, and each mistake in a file is a ``ValueError`` of one line."""

import re
from collections.abc import Callable
from typing import Any

import yaml

from .table import Printed


class Fields:
    """Read the values of a YAML mapping; a wrong key or type is a ``ValueError`` that names the place ``at``."""

    def __init__(self, at: str, data: Any, *required: str, optional: tuple[str, ...] = ()) -> None:
        if not isinstance(data, dict):
            raise ValueError(f'{at} must be a mapping with {", ".join(required)}, got {data!r}')
        missing = [key for key in required if key not in data]
        unknown = [str(key) for key in data if key not in (*required, *optional)]
        if missing or unknown:
            words = [f'lacks {", ".join(missing)}'] if missing else []
            words += [f'does not know {", ".join(unknown)} (it knows {", ".join((*required, *optional))})'] if unknown else []
            raise ValueError(f'{at} {" and ".join(words)}')
        self.at, self.data = at, data

    def text(self, key: str) -> str:
        """Return a text on one line, without repeated spaces."""
        return line(f'{self.at}: {key}', self.data.get(key))

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the texts of a list."""
        return tuple(line(f'{self.at}: {key}', value) for value in self.sequence(key))

    def sequence(self, key: str) -> list[Any]:
        """Return a list, empty if the key is missing."""
        return self._of(key, list, 'a list')

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a mapping, empty if the key is missing."""
        return self._of(key, dict, 'a mapping')

    def _of(self, key: str, kind: Callable[[], Any], word: str) -> Any:
        value = self.data.get(key, kind())
        if type(value) is not kind:
            raise ValueError(f'{self.at}: {key} must be {word}, got {value!r}')
        return value


def line(at: str, value: Any) -> str:
    """Return a text with each run of white space as one space; ``at`` names the place in the message."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{at} must be a text, got {value!r}')
    return ' '.join(value.split())


class Loader(yaml.SafeLoader):
    """A YAML loader that keeps the digits of numbers and raises a ``ValueError`` for a repeated key, of which YAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise ValueError(f'a key occurs twice{node.start_mark}')
        return mapping

    def construct_number(self, node: yaml.ScalarNode) -> Printed:
        text = str(node.value)
        if not re.fullmatch(r'\d+\.\d+', text):
            raise ValueError(f'a number must be written like 37.5, got {text}{node.start_mark}')
        return Printed(text)


Loader.add_constructor('tag:yaml.org,2002:float', Loader.construct_number)
