"""Show docstrings, which are written for reStructuredText readers as PyTorch's are, as Markdown."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r':(?:func|class|meth|mod|attr):`(?P<short>~?)(?P<target>[\w.]+)`')
LINK = re.compile(r'`(?P<text>[^`<]+?)\s+<(?P<address>https?://[^>]+)>`_')


def to_markdown(text: str) -> str:
    """Return a docstring with its roles, links and literal blocks in Markdown."""
    text = ROLE.sub(lambda m: f'`{m["target"].rsplit(".", 1)[-1] if m["short"] else m["target"].lstrip(".")}`', text)
    text = LINK.sub(r'[\g<text>](\g<address>)', text)
    text = text.replace('``', '`')
    return re.sub(r'^( *)::$', r'\1', text, flags=re.MULTILINE)


class Roles(Extension):
    """Convert every docstring when it is read."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Convert the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)
