"""Say what a file of weights holds beside data, with this package's option in place of torch's advice to switch the safety off."""

import re
from typing import Optional

TRUST_FLAG = '--trust-checkpoint'


def refused_by_torch(text: str) -> Optional[str]:
    """Return what ``torch.load`` refused to load, such as ``argparse.Namespace``, by its message; None for any other message."""
    if 'Weights only load failed' not in text and 'Cannot use ``weights_only=True``' not in text:
        return None
    patterns = (r'GLOBAL (\S+)', r"but got <class '([\w.]+)'>", r'Unpickler error:\s*(.+?)\s*(?:\n\n|$)')
    named = next(filter(None, (re.search(pattern, text, flags=re.DOTALL) for pattern in patterns)), None)
    return ' '.join(named[1].split())[:200] if named else 'objects that torch does not know as data'


def if_trusted() -> str:
    """Return the sentence that names the option which loads a file that holds more than data."""
    return f'Loading it could run code; if you trust the author of the file, add {TRUST_FLAG}'
