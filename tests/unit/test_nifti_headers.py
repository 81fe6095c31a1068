"""Headers of NIfTI files of an archive: read as nibabel reads them, refused with the true reason."""

import io
import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from trabecula.dicom.geometry import normal_of
from trabecula.errors import StudyFailure
from trabecula.nifti.header import VolumeHeader, read_header
from trabecula.nifti.slicing import slice_of, slicing_of

SHAPE = (4, 5, 6)
AXES = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def file_of(
    *, kind=nib.Nifti1Image, dtype="<i2", shape=SHAPE, affine=None, qform=None, sform=1, **fields
) -> io.BytesIO:
    """A NIfTI file without voxels; `fields` are written over the finished header."""
    affine = np.diag([1.0, 1, 3, 1]) if affine is None else affine
    header = {nib.Nifti1Image: nib.Nifti1Header, nib.Nifti2Image: nib.Nifti2Header}[kind](
        endianness="<" if np.dtype(dtype).byteorder in "<|=" else ">"
    )
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype).newbyteorder("="))
    header.set_sform(affine, sform)
    if qform is not None:
        header.set_qform(qform, 1, strip_shears=True)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    for name, value in fields.items():
        header[name] = value
    return io.BytesIO(header.binaryblock + bytes(4))


def reason_of(file: io.BytesIO) -> str:
    with pytest.raises(StudyFailure) as failure:
        read_header(file)
    return failure.value.reason


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", ">i4", "<u4", "<i8", ">f4", "<f8"])
def test_a_header_of_either_kind_and_byte_order_is_read(kind, dtype):
    affine = np.diag([-0.5, 0.7, 2.0, 1.0])
    file = file_of(kind=kind, dtype=dtype, affine=affine, scl_slope=2.0, scl_inter=-1024.0)
    header = read_header(file)
    assert header.shape == SHAPE and header.dtype == np.dtype(dtype)
    assert (header.slope, header.intercept) == (2.0, -1024.0)
    assert header.offset == {nib.Nifti1Image: 352, nib.Nifti2Image: 544}[kind]
    assert header.n_bytes == 120 * np.dtype(dtype).itemsize
    np.testing.assert_allclose(header.affine_ras, affine, rtol=1e-7)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"shape": (4, 5, 6, 2)}, "several_volumes"),
        ({"shape": (4, 5, 6, 1, 3)}, "several_volumes"),
        ({"dtype": np.complex64}, "voxel_type"),
        ({"dtype": [("R", "u1"), ("G", "u1"), ("B", "u1")]}, "voxel_type"),
        ({"datatype": 1}, "voxel_type"),
        ({"datatype": 9999}, "voxel_type"),
        ({"sform": 0}, "no_geometry"),
        ({"affine": np.diag([1.0, 0, 1, 1])}, "no_geometry"),
        ({"affine": np.diag([1.0, np.nan, 1, 1])}, "no_geometry"),
        ({"qform": np.diag([1.0, 1, 3.2, 1])}, "two_geometries"),
        ({"qform": np.diag([-1.0, -1, 3, 1])}, "two_geometries"),
        ({"sform": 0, "qform_code": 1, "quatern_b": 2.0}, "no_geometry"),
        ({"dtype": "u1"}, "eight_bit"),
        ({"dtype": "i1", "scl_slope": 1 / 255, "scl_inter": 0.5}, "eight_bit"),
        ({"scl_slope": 1.0, "scl_inter": np.inf}, "no_rescale"),
        ({"dim": [3, 9999, 9999, 9999, 1, 1, 1, 1]}, "too_large"),
        ({"dim": [3, 4, 5, 20000, 1, 1, 1, 1]}, "too_large"),
        ({"dim": [3, 4, 0, 5, 1, 1, 1, 1]}, "not_nifti"),
        ({"dim": [9, 4, 5, 5, 1, 1, 1, 1]}, "not_nifti"),
        ({"magic": b"ni1\0"}, "nifti_pair"),
        ({"magic": b"\0\0\0\0"}, "not_nifti"),
        ({"vox_offset": 20}, "not_nifti"),
        ({"vox_offset": np.nan}, "not_nifti"),
        ({"intent_code": 1002}, "label_map"),
    ],
)
def test_what_is_no_volume_in_hounsfield_units_has_its_reason(fields, reason):
    assert reason_of(file_of(**fields)) == reason


@pytest.mark.parametrize(
    ("fields", "slope_and_intercept"),
    [
        ({"scl_slope": 0.0, "scl_inter": 7.0}, (1, 0)),
        ({"scl_slope": np.nan, "scl_inter": np.nan}, (1, 0)),
        ({"dtype": "u1", "scl_slope": 10.0, "scl_inter": -1024.0}, (10, -1024)),
    ],
)
def test_no_slope_means_values_as_they_are(fields, slope_and_intercept):
    header = read_header(file_of(**fields))
    assert (header.slope, header.intercept) == slope_and_intercept


@pytest.mark.parametrize(("units", "mm"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1), (11, 0.001)])
def test_lengths_become_millimetres(units, mm):
    assert read_header(file_of(xyzt_units=units)).affine_ras.diagonal().tolist() == pytest.approx([mm, mm, 3 * mm, 1])


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 1), (4, 5, 6, 1, 1)])
def test_axes_of_one_are_no_volumes(shape):
    assert read_header(file_of(shape=shape)).shape == (*shape, 1)[:3]


def test_forms_that_agree_but_for_rounding_are_one_place():
    header = read_header(file_of(qform=np.diag([1.0, 1, 3.05, 1])))
    assert header.affine_ras[2, 2] == 3


@given(st.binary(max_size=700))
def test_any_bytes_are_a_reason(content):
    assert reason_of(io.BytesIO(content)) == "not_nifti"


@given(st.lists(st.tuples(st.integers(4, 347), st.integers(0, 255)), max_size=12), st.integers(0, 352))
def test_damaged_headers_have_a_reason_or_are_read(changes, length):
    content = bytearray(file_of(qform=np.diag([1.0, 1, 3, 1])).getvalue())
    for place, byte in changes:
        content[place] = byte
    try:
        header = read_header(io.BytesIO(bytes(content[:length]) if length % 2 else bytes(content)))
    except StudyFailure:
        return
    assert isinstance(header, VolumeHeader)
    assert np.isfinite(header.affine_ras).all() and min(header.shape) > 0


@pytest.mark.parametrize(
    "axes", AXES, ids=lambda axes: "".join(nib.aff2axcodes(np.pad(axes, (0, 1)) + np.diag([0, 0, 0, 1])))
)
@given(st.tuples(*[st.floats(-25, 25)] * 3), st.tuples(*[st.floats(0.3, 5)] * 3), st.floats(-0.4, 0.4))
def test_every_voxel_lands_at_its_place(axes, degrees, spacing, tilt):
    """In all 48 orders of axes, turned and tilted, a slice holds the voxels that nibabel's affine puts there."""
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ axes
    along = int(np.argmax(np.abs(turned[2])))
    leaning = np.eye(3)
    leaning[(along + 1) % 3, along] = tilt  # slices move within their planes, as those of a tilted gantry
    affine[:3, :3] = turned @ leaning * spacing
    affine[:3, 3] = [-80, 40, 900]
    slicing = slicing_of(SHAPE, affine)
    indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    array = apply_affine(affine, indices) * [-1, -1, 1]
    row, column = np.reshape(slicing.orientation, (2, 3))
    assert row[0] > 0 and column[1] > 0
    assert slicing.n_slices == SHAPE[slicing.slice_axis]
    normal_of(slicing.orientation)
    for number in range(slicing.n_slices):
        places = np.stack([slice_of(array[..., k], slicing, number) for k in range(3)], axis=-1)
        assert places.shape[:2] == (slicing.n_rows, slicing.n_columns)
        rows, columns = np.meshgrid(np.arange(slicing.n_rows), np.arange(slicing.n_columns), indexing="ij")
        expected = (
            np.array(slicing.position_mm(number))
            + columns[..., None] * slicing.pixel_mm[1] * row
            + rows[..., None] * slicing.pixel_mm[0] * column
        )
        np.testing.assert_allclose(places, expected, atol=1e-6)


def test_rows_and_columns_that_are_not_perpendicular_are_refused():
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(StudyFailure) as failure:
        slicing_of(SHAPE, affine)
    assert failure.value.reason == "skewed_axes"
