"""The packages that parts of mmdysample need beyond torch: a missing or old one is named together with the command that installs it."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

from packaging.version import Version

# The oldest versions that have the interfaces used here. setup.py asks pip for the same torch, and `make test-oldest` tests it.
MINIMA = {'torch': '2.6.0', 'mmengine': '0.10.0', 'mmcv': '2.0.1', 'mmdet': '3.1.0', 'mmseg': '1.1.1'}

# The tested versions of the two distributions that share the import names.
OPENMMLAB = {'mmengine': 'mmengine==0.10.7', 'mmcv': 'mmcv==2.1.0', 'mmdet': 'mmdet==3.3.0', 'mmseg': 'mmsegmentation==1.2.2'}
ONEDL = {
    'mmengine': 'onedl-mmengine==0.10.12',
    'mmcv': 'onedl-mmcv==2.3.6',
    'mmdet': 'onedl-mmdetection==3.5.1',
    'mmseg': 'onedl-mmsegmentation==1.4.2',
}
UNDECLARED = {'mmseg': ('ftfy', 'regex')}  # mmsegmentation imports these without declaring them
# The extra of this package that brings each of the other packages, by import name.
EXTRAS = {
    **dict.fromkeys(('adjustText', 'filelock', 'matplotlib', 'prettytable', 'pycocotools', 'rich', 'yaml'), 'tools'),
    **dict.fromkeys(('onnx', 'onnxruntime', 'onnxscript'), 'export'),
}


def require(framework: str, user: str) -> None:
    """Check that a framework can be imported and is new enough.

    Args:
        framework: ``'torch'``, ``'mmengine'``, ``'mmcv'``, ``'mmdet'`` or ``'mmseg'``.
        user: The name of the feature that needs it, for the message.

    Raises:
        ImportError: It is not installed, fails to import, or is older than the minimum. The message has the command that installs it.
    """
    if find_spec(framework) is None:
        raise ImportError(f'{user} needs {framework}, which is not installed. Run: {install_command(framework)}')
    for name in UNDECLARED.get(framework, ()):
        if find_spec(name) is None:
            raise ImportError(f'{user} needs {framework}, which imports {name} without declaring it. Run: pip install {name}')
    try:
        version = import_module(framework).__version__
    except ModuleNotFoundError as error:
        raise ImportError(f'{user} needs {framework}: {explain_missing(error)}') from error
    except AssertionError as error:  # the frameworks check each other's versions with assertions
        raise ImportError(f'{user} needs {framework}, which refuses to be imported: {error} Run: {install_command("mmcv")}') from error
    if Version(version) < Version(MINIMA[framework]):
        raise ImportError(f'{user} needs {framework} >= {MINIMA[framework]}, got {version}. Run: {install_command(framework)}')


def require_package(package: str, user: str) -> None:
    """Check that a package without further conditions is installed.

    Args:
        package: Its import name, which is also its name on PyPI.
        user: The name of the feature that needs it, for the message.

    Raises:
        ImportError: It is not installed. The message has the command that installs it.
    """
    if find_spec(package) is None:
        raise ImportError(f'{user} needs {package}, which is not installed. Run: pip install {package}')


def install_command(framework: str) -> str:
    """Return the command that installs the tested version of the distribution that is installed already, or else of OpenMMLab's."""
    if framework == 'torch':
        return f"pip install 'torch>={MINIMA['torch']}'"
    try:
        distribution('onedl-mmengine')
        package = ONEDL[framework]
    except PackageNotFoundError:
        package = OPENMMLAB[framework]
    # mmcv is compiled against the installed torch, with the installed setuptools.
    return f'pip install --no-build-isolation {package}' if framework == 'mmcv' else f'pip install {package}'


def explain_missing(error: ModuleNotFoundError) -> str:
    """Return a sentence that names the package which could not be imported and the command that installs it."""
    name = (error.name or '').split('.')[0]
    if name == 'mmcv' and find_spec('mmcv') is not None:
        return f'the installed mmcv has no compiled operators ({error}). Run: pip uninstall mmcv-lite, then {install_command("mmcv")}'
    if name in OPENMMLAB:
        return f'{name} is not installed. Run: {install_command(name)}'
    if name in EXTRAS:
        return f"{name} is not installed. Run: pip install 'mmdysample[{EXTRAS[name]}]'"
    return str(error)
