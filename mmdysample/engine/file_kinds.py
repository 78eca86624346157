"""Tell what a file is that was given as a checkpoint and that ``torch.save`` has not written."""

import pickle
import tarfile
import zipfile
from pathlib import Path

# The first bytes of files that people give instead of a checkpoint.
SIGNATURES = {
    b'version https://git-lfs': 'a Git LFS pointer and not the file itself: run git lfs pull',
    b'\x89HDF': 'an HDF5 file, as Keras writes',
    b'\x93NUMPY': 'a numpy array',
    b'\x89PNG': 'an image',
    b'\xff\xd8\xff': 'an image',
    b'%PDF': 'a PDF',
    b'GGUF': 'a GGUF file',
    b'\x1f\x8b': 'a gzip archive: unpack it',
    b'BZh': 'a bzip2 archive: unpack it',
    b'\xfd7zXZ': 'an xz archive: unpack it',
    b'7z\xbc\xaf': 'a 7z archive: unpack it',
    b'Rar!': 'a RAR archive: unpack it',
    b'\x28\xb5\x2f\xfd': 'a zstd archive: unpack it',
}
# torch.save began its files with this pickled number until torch 1.6, and does so today with _use_new_zipfile_serialization=False.
OLD_TORCH = tuple(pickle.dumps(0x1950A86A20F9469CFC6C, protocol) for protocol in range(6))
SAFETENSORS = "python -c \"import torch, safetensors.torch as s; torch.save(s.load_file('{path}'), '{stem}.pth')\""


def foreign_kind(path: Path) -> str:
    """Return what a file is and what to do with it, or an empty string for what ``torch.save`` may have written, complete or not.

    Args:
        path: The file. If it is a zip archive, its checksums were verified.
    """
    head = _head(path)
    if not head:
        return 'an empty file'
    if not head.strip(b'\0'):  # as a download leaves it that reserves the space first; tarfile takes it for an empty archive
        return 'filled with zeros: the download or the copy did not finish'
    if is_old_torch(path):
        return ''
    for start, kind in SIGNATURES.items():
        if head.startswith(start):
            return kind
    if head.startswith(b'PK') and is_archive(path):
        with zipfile.ZipFile(path) as archive:
            return _archive(archive.namelist())
    if head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2**28:
        return f'a safetensors file, which mmengine does not read: run {SAFETENSORS.format(path=path, stem=path.with_suffix(""))}'
    if path.suffix == '.onnx' or (head[:1] == b'\x08' and b'pytorch' in head[:64]):
        return 'an ONNX model'
    if head[:1] == b'\x80' and head[1:2] in b'\x02\x03\x04\x05':
        return "a pickle that torch.save has not written, such as Detectron2's or Caffe2's weights"
    if _is_text(head):
        return 'a web page: the download went wrong' if head.lstrip()[:1] == b'<' else 'a text file'
    return 'a tar archive: unpack it' if tarfile.is_tarfile(path) else ''


def is_old_torch(path: Path) -> bool:
    """Return True if a file begins as ``torch.save`` began it until torch 1.6, in any pickle protocol."""
    return _head(path).startswith(OLD_TORCH)


def is_archive(path: Path) -> bool:
    """Return True if a file is a zip archive, as ``torch.save`` writes today; False if it is one that is cut off."""
    try:
        return not is_old_torch(path) and zipfile.is_zipfile(path)
    except Exception:  # of an archive whose list of contents is damaged
        return True


def is_mappable(path: Path) -> bool:
    """Return True if the weights in a file can stay on disk until they are used: those of an archive that is not compressed.

    Args:
        path: As in :func:`foreign_kind`.
    """
    if not is_archive(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _head(path: Path) -> bytes:
    with path.open('rb') as file:
        return file.read(1024)


def _archive(names: list[str]) -> str:
    """Return what a zip archive is, by the names of its members; an empty string if it is a checkpoint."""
    ends = {name.rsplit('/', 1)[-1] for name in names}
    if 'constants.pkl' in ends:
        return 'a TorchScript program, from which training cannot start: give the checkpoint that it was made from'
    if 'serialized_exported_program.json' in ends or any(name.endswith('models/model.json') for name in names):
        return 'a program of torch.export: give the checkpoint that it was made from'
    if 'data.pkl' in ends:
        return ''
    if names and all(name.endswith('.npy') for name in names):
        return 'an archive of numpy arrays'
    return f'a zip archive{f" that holds {names[0]}" if names else ""}: unpack it'


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # more than a character that was cut
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)
