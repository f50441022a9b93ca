"""Names of a GPU as users write them: a device name, a UUID or a PCI bus ID. Pure."""

from gpuvitals.model.pci import normalize_bus_id


def normalize_gpu_name(text: str) -> str:
    """One spelling per name: bus IDs as the kernel prints them, all letters lower case."""
    return normalize_bus_id(text) or text.strip().lower()
