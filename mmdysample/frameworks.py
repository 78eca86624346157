"""The frameworks that mmdysample extends: what is missing or too old is named, with the command that mends it."""

from importlib import import_module
from importlib.util import find_spec

from packaging.version import Version

# The oldest versions whose interfaces are used here.
MINIMA = {'mmengine': '0.10.0', 'mmcv': '2.0.1', 'mmdet': '3.1.0', 'mmseg': '1.1.1'}
TESTED = {'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0', 'mmseg': '1.2.2'}
PACKAGES = {'mmseg': 'mmsegmentation'}


def require(framework: str, user: str) -> None:
    """Check that a framework can be imported and is new enough.

    Args:
        framework: ``'mmengine'``, ``'mmcv'``, ``'mmdet'`` or ``'mmseg'``.
        user: What needs it, for the message.

    Raises:
        ImportError: It is not installed, fails to import, or is older than the minimum; with the command that mends it.
    """
    command = f'pip install {PACKAGES.get(framework, framework)}=={TESTED[framework]}'
    if find_spec(framework) is None:
        raise ImportError(f'{user} needs {framework}, which is not installed. Run: {command}')
    try:
        version = import_module(framework).__version__
    except AssertionError as error:  # the frameworks check each other's versions with assertions
        raise ImportError(f'{user} needs {framework}, which refuses to be imported: {error}') from error
    if Version(version) < Version(MINIMA[framework]):
        raise ImportError(f'{user} needs {framework} >= {MINIMA[framework]}, got {version}. Run: {command}')
