"""Show what the checks of a user's data found."""

from collections import Counter
from collections.abc import Iterable

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from .coco.file import kept_file
from .findings import LEVELS, Finding
from .image_files import IMAGE_ENDINGS, listing
from .source import sources

WIDE = 1000  # columns of the table where the output is no terminal, so that no line is broken


def print_findings(findings: list[Finding]) -> None:
    """Print findings as a table, the worst first."""
    table = Table('finding', 'where', 'how many', 'what', 'example', 'what to do', show_lines=True)
    for finding in sorted(findings, key=lambda finding: LEVELS.index(finding.level)):
        count = '' if finding.count is None else str(finding.count)
        table.add_row(finding.level, str(finding.place or ''), count, finding.what, finding.example, finding.remedy)
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=WIDE)
    console.print(table, markup=False)


def summary(findings: list[Finding]) -> str:
    """Return the numbers of findings by level, such as ``2 errors, 1 warning``; an empty text if there are none."""
    counts = Counter(finding.level for finding in findings)
    plural = {'error': 'errors', 'warning': 'warnings', 'mended': 'mended'}
    return ', '.join(f'{counts[level]} {plural[level] if counts[level] > 1 else level}' for level in LEVELS if counts[level])


def contents(config: Config, splits: Iterable[str]) -> str:
    """Return how much the datasets of a config hold, such as ``train: 100 images, 746 objects; val: 100 images, 712 objects``."""
    found = []
    for source in sources(config, splits):
        file = kept_file(source.ann_file) if source.ann_file else None
        if file:
            found.append(f'{source.split}: {len(file.content["images"])} images, {len(file.objects())} objects')
        else:
            folder = source.folders.get('img_path') or source.folders.get('img') or source.root
            suffix = source.dataset.get('img_suffix')
            names = (name for name in listing(folder) if (name.endswith(suffix) if suffix else name.lower().endswith(IMAGE_ENDINGS)))
            found.append(f'{source.split}: {sum(1 for _ in names)} images')
    return '; '.join(found)
