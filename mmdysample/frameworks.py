"""The frameworks that mmdysample extends: what is missing or too old is named, with the command that mends it."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from packaging.version import Version

# The oldest versions whose interfaces are used here.
MINIMA = {'mmengine': '0.10.0', 'mmcv': '2.0.1', 'mmdet': '3.1.0', 'mmseg': '1.1.1'}

# What was tested, of each of the two distributions that share the import names.
OPENMMLAB = {'mmengine': 'mmengine==0.10.7', 'mmcv': 'mmcv==2.1.0', 'mmdet': 'mmdet==3.3.0', 'mmseg': 'mmsegmentation==1.2.2'}
ONEDL = {
    'mmengine': 'onedl-mmengine==0.10.12',
    'mmcv': 'onedl-mmcv==2.3.6',
    'mmdet': 'onedl-mmdetection==3.5.1',
    'mmseg': 'onedl-mmsegmentation==1.4.2',
}
UNDECLARED = {'mmseg': ('ftfy', 'regex')}  # what mmsegmentation imports without asking for it


def require(framework: str, user: str) -> None:
    """Check that a framework can be imported and is new enough.

    Args:
        framework: ``'mmengine'``, ``'mmcv'``, ``'mmdet'`` or ``'mmseg'``.
        user: What needs it, for the message.

    Raises:
        ImportError: It is not installed, fails to import, or is older than the minimum; with the command that mends it.
    """
    if find_spec(framework) is None:
        raise ImportError(f'{user} needs {framework}, which is not installed. Run: {install_command(framework)}')
    for name in UNDECLARED.get(framework, ()):
        if find_spec(name) is None:
            raise ImportError(f'{user} needs {framework}, which imports {name} without asking for it. Run: pip install {name}')
    try:
        version = import_module(framework).__version__
    except AssertionError as error:  # the frameworks check each other's versions with assertions
        raise ImportError(f'{user} needs {framework}, which refuses to be imported: {error} Run: {install_command("mmcv")}') from error
    if Version(version) < Version(MINIMA[framework]):
        raise ImportError(f'{user} needs {framework} >= {MINIMA[framework]}, got {version}. Run: {install_command(framework)}')


def install_command(framework: str) -> str:
    """The command that installs the tested version, of the distribution that is here already."""
    try:
        distribution('onedl-mmengine')
        package = ONEDL[framework]
    except PackageNotFoundError:
        package = OPENMMLAB[framework]
    # mmcv is compiled against the torch that is here, with the setuptools that is here.
    return f'pip install --no-build-isolation {package}' if framework == 'mmcv' else f'pip install {package}'
