"""Write and read device keys: maker, model, kVp or spectrum, and kernel, joined by bars."""

from collections.abc import Sequence


def write_device_key(parts: Sequence[str | None]) -> str:
    """Join maker, model, kVp or spectrum, and kernel, with a question mark for each that is unknown.

    >>> write_device_key(("Maker", None, "120", "B30f"))
    'Maker|?|120|B30f'
    """
    return "|".join(part or "?" for part in parts)


def spectrum_of(device_key: str | None) -> str | None:
    """Give the spectrum that a device key names in place of a tube's voltage; None where it names none.

    >>> spectrum_of("Maker|Model|VMI 40 keV|B30f"), spectrum_of("Maker|Model|120|B30f"), spectrum_of(None)
    ('VMI 40 keV', None, None)
    """
    parts = device_key.split("|") if isinstance(device_key, str) else []
    if len(parts) != 4 or parts[2] == "?" or parts[2].replace(".", "").isdecimal():
        return None
    return parts[2]
