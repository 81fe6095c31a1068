"""List the scanners of the synthetic archive. Makers and models are invented."""

from dataclasses import dataclass

from trabecula.density.attenuation import EFFECTIVE_ENERGY_KEV


@dataclass(frozen=True)
class Kernel:
    """A reconstruction kernel.

    Attributes
    ----------
    name : str
        As in the DICOM attribute ConvolutionKernel.
    blur_mm : float
        Full width at half maximum of the in-plane point spread.
    edge : float
        Strength of edge enhancement (0 for soft-tissue kernels).
    noise : float
        Noise relative to the device's standard kernel.
    noise_peak_per_mm : float
        Spatial frequency at which the noise power peaks; higher looks finer.
    """

    name: str
    blur_mm: float
    edge: float
    noise: float
    noise_peak_per_mm: float


@dataclass(frozen=True)
class Device:
    """A scanner and its abdominal protocol.

    Attributes
    ----------
    maker, model : str
        As in the DICOM attributes Manufacturer and ManufacturerModelName.
    kvp : int
        Tube voltage, a key of `EFFECTIVE_ENERGY_KEV`.
    kernel, sharp_kernel : Kernel
        Of the primary series and of the second reconstruction.
    thickness_mm : float
        Slice thickness and distance of slices of the primary series.
    noise_hu : float
        Noise in the middle of a body of 300 mm at 3 mm slices, at `ma_s`.
    offset_hu, slope : float
        Measured HU = slope * true HU + offset_hu: the calibration error of the device.
    contrast_share : float
        Share of portal-venous scans; half as many are arterial.
    padding_hu : float or None
        Value outside the circle of reconstruction; None where the square is filled.
    qct_material : str
        Material of the QCT phantom that its labels refer to, HA or K2HPO4.
    external : bool
        Never used for development.
    """

    maker: str
    model: str
    kvp: int
    kernel: Kernel
    sharp_kernel: Kernel
    thickness_mm: float
    noise_hu: float
    offset_hu: float
    slope: float
    ma_s: int
    contrast_share: float
    padding_hu: float | None = None
    qct_material: str = "HA"
    external: bool = False

    @property
    def energy_kev(self) -> float:
        """Give the effective energy of the tube voltage."""
        return EFFECTIVE_ENERGY_KEV[self.kvp]


DEVICES: dict[str, Device] = {
    "alpha": Device(
        maker="Nordlys Synthetic",
        model="Alpha 64",
        kvp=120,
        kernel=Kernel("B30f", 1.3, 0.0, 1.0, 0.22),
        sharp_kernel=Kernel("B60f", 0.8, 0.7, 2.2, 0.5),
        thickness_mm=2.5,
        noise_hu=14.0,
        offset_hu=-2.0,
        slope=1.005,
        ma_s=180,
        contrast_share=0.4,
    ),
    "beta": Device(
        maker="Nordlys Synthetic",
        model="Beta Spectral 128",
        kvp=100,
        kernel=Kernel("Br40d", 1.1, 0.1, 1.1, 0.28),
        sharp_kernel=Kernel("Br64d", 0.75, 0.8, 2.4, 0.55),
        thickness_mm=3.0,
        noise_hu=16.0,
        offset_hu=3.0,
        slope=0.99,
        ma_s=150,
        contrast_share=0.6,
    ),
    "delta": Device(
        maker="Fantom Imaging",
        model="Delta 16",
        kvp=120,
        kernel=Kernel("STANDARD", 1.4, 0.0, 1.0, 0.2),
        sharp_kernel=Kernel("BONE", 0.85, 0.6, 2.3, 0.45),
        thickness_mm=5.0,
        noise_hu=13.0,
        offset_hu=1.0,
        slope=1.015,
        ma_s=220,
        contrast_share=0.5,
        padding_hu=-3024.0,
        qct_material="K2HPO4",
    ),
    "gamma": Device(
        maker="Umbra Systems",
        model="Gamma One",
        kvp=120,
        kernel=Kernel("FC08", 1.2, 0.05, 1.0, 0.25),
        sharp_kernel=Kernel("FC30", 0.8, 0.7, 2.1, 0.5),
        thickness_mm=3.75,
        noise_hu=15.0,
        offset_hu=-5.0,
        slope=0.995,
        ma_s=160,
        contrast_share=0.5,
        external=True,
    ),
}
