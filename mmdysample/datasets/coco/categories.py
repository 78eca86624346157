"""Mend and check the categories of COCO annotations."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmdysample.terminal.text import short

from ..findings import Finding
from .numbers import integers, mend_ids

Entry = dict[str, Any]


def mend_categories(path: Path, categories: list[Entry], objects: list[Entry]) -> Iterator[Finding]:
    """Make each category's id an integer and its name a text that no other category has.

    Args:
        path: The file, for messages.
        categories: The categories, changed in place.
        objects: Everything that has a ``category_id``, changed in place.

    Yields:
        What was mended, and what cannot be.
    """
    for category in categories:
        category['name'] = str(category['name'])
    yield from mend_ids(path, 'category ids', categories, objects, 'category_id')
    ids = Counter(category['id'] for category in categories)
    twice = [f'{number}: {", ".join(c["name"] for c in categories if c["id"] == number)}' for number, n in ids.items() if n > 1]
    if twice:
        yield Finding('error', path, 'category ids given twice', 'give each category an id of its own', len(twice), twice[0])
    else:
        yield from _merge(path, categories, objects)


def _merge(path: Path, categories: list[Entry], objects: list[Entry]) -> Iterator[Finding]:
    """Make categories of the same name one, if only one of them is used.

    Some platforms export a class a second time as its own parent, without objects. If both are used, it cannot be told whether they are
    meant to be one class.
    """
    names = Counter(category['name'] for category in categories)
    doubled = {name: [c['id'] for c in categories if c['name'] == name] for name, n in names.items() if n > 1}
    if not doubled:
        return
    used = {a.get('category_id') for a in objects}
    for name, numbers in doubled.items():
        such = f'{name}, with the ids {", ".join(map(str, numbers))}'
        if len(used.intersection(numbers)) > 1:
            remedy = 'rename one, or give the objects of both the same category_id'
            yield Finding('error', path, 'class name that several used categories have', remedy, 1, such)
            continue
        what = 'class name that several categories have, of which one at most is used'
        yield Finding('mended', path, what, 'they are one class', 1, such)
        for a in objects:
            if a.get('category_id') in numbers:
                a['category_id'] = numbers[0]
    first = {name: numbers[0] for name, numbers in doubled.items() if len(used.intersection(numbers)) <= 1}
    categories[:] = [c for c in categories if first.get(c['name'], c['id']) == c['id']]


def check_classes(path: Path, categories: list[Entry], classes: list[str]) -> Iterator[Finding]:
    """Check that the config's classes are categories.

    Categories that are not among the classes are allowed: ``metainfo=dict(classes=('person',))`` selects a class. So is another order.
    """
    names = [category['name'] for category in categories]
    if not set(classes) <= set(names):
        text = f'{path} has the categories {short(names)}, and the config the classes {short(classes)}'
        remedy = 'each class must be a category; with --data-root the classes are taken from the annotations'
        yield Finding('error', None, text, remedy, count=None)


def check_category_ids(path: Path, categories: list[Entry], objects: list[Entry]) -> Iterator[Finding]:
    """Check that the objects' categories exist."""
    known = {category['id'] for category in categories}
    strange = [a for a in objects if a['category_id'] not in known]
    if not strange:
        return
    numbers = sorted({a['category_id'] for a in strange}, key=str)
    such = f'{", ".join(map(str, numbers[:5]))}; the categories have {_range(known)}'
    what = 'objects whose category_id is that of no category'
    if _shifted(known, {a['category_id'] for a in objects}):
        what = f'{what}, as if one were numbered from 0 and the other from 1'
        yield Finding('error', path, what, 'number both alike', len(strange), such)
    elif len(strange) == len(objects):
        yield Finding('error', path, f'{what}, which are all', 'give them the ids of the categories', len(strange), such)
    else:
        yield Finding('warning', path, what, 'they are left out; add the category, or remove them', len(strange), such)


def _shifted(known: set, used: set) -> bool:
    """Return True if objects are numbered from 0 and categories from 1, or the other way around."""
    whole, all_known = integers(known | used), integers(known)
    if whole is None or all_known is None or len(used) < 2:
        return False
    low, high = min(all_known), max(all_known)
    consecutive = high - low + 1 == len(all_known)
    return (
        consecutive
        and len(whole) == len(all_known) + 1
        and (min(whole), max(whole)) in ((low - 1, high), (low, high + 1))
        and not ({low, high} <= used)
    )


def _range(known: set) -> str:
    ids = sorted(known, key=str)
    return ', '.join(map(str, ids)) if len(ids) <= 5 else f'{len(ids)} others, from {ids[0]} to {ids[-1]}'
