"""Small DICOM whole-slide images with uncompressed frames, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
FRAME = 64
#: Of every file here, as of a patient: it must appear nowhere.
PATIENT = "ZZTOP^SECRET"


def write_dicom(
    path: Path,
    pixels: NDArray[np.uint8],
    series: str,
    spacing: tuple[float, float] | None = (0.0005, 0.0005),
    **options: Any,
) -> Path:
    """Write one tiled image of a slide; return its path.

    Parameters
    ----------
    spacing
        mm per pixel along x and y; None leaves it out.
    **options
        `corner`, (x, y) of the first pixel in mm; `orientation`, six numbers or None; `volume`,
        (width, height) in mm; `kind`, the third of its image type; `label` of its container.
    """
    height, width = pixels.shape[:2]
    frames = _frames(pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = WSI
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = WSI, meta.MediaStorageSOPInstanceUID
    image.SeriesInstanceUID = image.StudyInstanceUID = series
    image.PatientName = image.PatientID = PATIENT
    image.ContainerIdentifier = options.get("label", "")
    image.Modality = "SM"
    kind = options.get("kind", "VOLUME")
    image.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    image.Rows = image.Columns = FRAME
    image.NumberOfFrames = len(frames)
    image.TotalPixelMatrixColumns, image.TotalPixelMatrixRows = width, height
    image.TotalPixelMatrixFocalPlanes = image.NumberOfOpticalPaths = 1
    image.DimensionOrganizationType = "TILED_FULL"
    image.SamplesPerPixel, image.PhotometricInterpretation = 3, "RGB"
    image.PlanarConfiguration = image.PixelRepresentation = 0
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    orientation = options.get("orientation", [0, -1, 0, -1, 0, 0])
    if orientation is not None:
        image.ImageOrientationSlide = orientation
    corner = options.get("corner", (20.0, 40.0))
    if corner is not None:
        origin = Dataset()
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = corner
        image.TotalPixelMatrixOriginSequence = [origin]
    if options.get("volume"):
        image.ImagedVolumeWidth, image.ImagedVolumeHeight = options["volume"]
    if spacing is not None:
        measures, groups = Dataset(), Dataset()
        measures.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
        groups.PixelMeasuresSequence = [measures]
        image.SharedFunctionalGroupsSequence = [groups]
    image.PixelData = b"".join(frame.tobytes() for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def padded(pixels: NDArray[np.uint8], side: int = FRAME) -> NDArray[np.uint8]:
    """Return pixels filled up with black to whole frames."""
    down, across = (-length % side for length in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, across), (0, 0)))


def _frames(pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    whole = padded(pixels)
    rows, columns = (range(0, length, FRAME) for length in whole.shape[:2])
    return [whole[y : y + FRAME, x : x + FRAME].copy() for y in rows for x in columns]
