"""Make the records of an archive's NIfTI files, one per slice, and read all of an archive's files."""

import gzip
import os
import zlib
from collections.abc import Iterable
from functools import partial
from typing import BinaryIO, cast

from trabecula.dicom.headers.read import Reader, read_headers
from trabecula.dicom.headers.record import NIFTI, Header, ListedFile, Source, failed
from trabecula.dicom.identity import uid_of
from trabecula.errors import StudyFailure
from trabecula.nifti.header import VolumeHeader, read_header
from trabecula.nifti.names import Name, is_generic_folder, is_nifti, is_sidecar, name_of
from trabecula.nifti.sidecars import Sidecars, check_sidecar
from trabecula.nifti.slicing import slicing_of

# Deflate packs 1032 bytes into one at most (RFC 1951): a file that is smaller still lacks voxels.
_MOST_PACKED = 1032


def read_records(archive: str, files: Iterable[ListedFile], *, archives: bool) -> list[Header]:
    """Read the headers of an archive's files, DICOM and NIfTI.

    Parameters
    ----------
    archive : str
        The archive's top folder.
    files : iterable of ListedFile
        Files below it.
    archives : bool
        Whether to look into zip and tar files.

    Returns
    -------
    list of Header
        As `trabecula.dicom.headers.read.read_headers` gives them, and a record per slice of a NIfTI volume.
    """
    sidecars = Sidecars(archive)
    read_nifti = partial(_read_nifti, sidecars=sidecars, data_set=data_set_of(os.path.realpath(archive)))

    def reader_of(name: str) -> Reader | None:
        return read_nifti if is_nifti(name) else check_sidecar if is_sidecar(name) else None

    return read_headers(archive, files, archives=archives, reader_of=reader_of)


def data_set_of(archive: str) -> str:
    """Name an archive among others, so that one id in two of them is not taken for one patient.

    The name is the last part of its path that names anything, with what follows; so an archive may be moved.

    >>> data_set_of("/data/verse19"), data_set_of("/data/verse19/rawdata"), data_set_of("/")
    ('verse19', 'verse19/rawdata', '')
    """
    parts = [part for part in archive.split("/") if part]
    first = next((n for n in reversed(range(len(parts))) if not is_generic_folder(parts[n])), 0)
    return "/".join(parts[first:])


def issuer_of(data_set: str, root: str) -> str:
    """Write what stands for the issuer of a patient's id: one id in two data sets is of two patients."""
    return f"{NIFTI}:{data_set}/{root}"


def _read_nifti(file: BinaryIO, source: Source, *, sidecars: Sidecars, data_set: str) -> list[Header]:
    """Read a NIfTI file: a record per slice, or one with the reason why it can't be used."""
    place = source.path if source.member is None else f"{source.path}/{source.member}"
    name = name_of(place)
    if name.is_label_map:
        return [failed(source, "label_map")]
    whole = Header(source.path, source.member, source.size, source.mtime_ns, transfer_syntax=NIFTI, substitute=False)
    whole = whole._replace(**_identity(place, name, data_set), modality=name.modality, image_type=None)
    whole = whole._replace(**sidecars.facts_of(source, name))
    try:
        header = read_header(_opened(file))
        _refuse_cut_off(file, source, header)
        return _slices(whole, header)
    except StudyFailure as failure:
        return [failed(source, "label_map") if failure.reason == "label_map" else whole._replace(reason=failure.reason)]
    except EOFError:
        return [whole._replace(reason="truncated")]
    except (zlib.error, gzip.BadGzipFile):
        return [whole._replace(reason="not_nifti")]


def _identity(place: str, name: Name, data_set: str) -> dict[str, str | None]:
    """Give patient, issuer and UIDs; the UIDs are made from the place, and from nothing else."""
    issuer = issuer_of(data_set, name.root)
    file = place[: place.rindex(name.stem) + len(name.stem)]  # so x.nii and x.nii.gz are copies of each other
    of_session = name.patient is not None and name.session is not None
    study = (issuer, name.patient, name.session) if of_session else (data_set, file)
    uids = uid_of("NIfTI study", *study), uid_of("NIfTI series", data_set, file), uid_of("NIfTI", data_set, file)
    names = ("study_uid", "series_uid", "instance_uid")
    return {"patient": name.patient, "issuer": issuer, **dict(zip(names, uids, strict=True))}


def _opened(file: BinaryIO) -> BinaryIO:
    """Give a file's content from its first byte on, decompressed as it is read where it is compressed."""
    start = file.read(2)
    file.seek(0)
    if not start:
        raise StudyFailure("empty")
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if start == b"\x1f\x8b" else file


def _refuse_cut_off(file: BinaryIO, source: Source, header: VolumeHeader) -> None:
    file.seek(0)
    grows = _MOST_PACKED if file.read(2) == b"\x1f\x8b" else 1
    if source.n_bytes * grows < header.offset + header.n_bytes:
        raise StudyFailure("truncated")


def _slices(whole: Header, header: VolumeHeader) -> list[Header]:
    slicing = slicing_of(header.shape, header.affine_ras)
    bits = header.dtype.itemsize * 8
    volume = whole._replace(
        photometric="MONOCHROME2",
        slope=header.slope,
        intercept=header.intercept,
        rows=slicing.n_rows,
        columns=slicing.n_columns,
        frames=slicing.n_slices,
        bits=bits,
        bits_stored=bits,
        high_bit=bits - 1,
        signed=int(header.dtype.kind != "u"),
        samples=1,
        pixel_spacing_mm=slicing.pixel_mm,
        orientation=slicing.orientation,
    )
    return [volume._replace(frame=n, positions_mm=slicing.position_mm(n)) for n in range(slicing.n_slices)]
