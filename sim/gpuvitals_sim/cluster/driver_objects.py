"""The API objects that the chart installs for the driver: device classes and the policy's definition.

Place in the chain: `cluster.py` creates them; claims of the demo name the classes.
"""

from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.policy_crd import policy_definition
from gpuvitals_sim.apiserver import ApiClient
from gpuvitals_sim.apiserver.json_types import Obj

CLASSES = "deviceclasses.resource.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
DEVICE_CLASS = "gpu.vitals.internal"


def install_driver_objects(client: ApiClient, naming: Naming) -> None:
    """Creates the device classes and the CustomResourceDefinition. Raises ApiError."""
    for item in device_classes(naming):
        client.create(CLASSES, item)
    client.create(DEFINITIONS, policy_definition(naming.api_group))


def device_classes(naming: Naming) -> tuple[Obj, Obj]:
    """The classes of the chart: all devices of this driver, and its healthy whole GPUs.

    The test of the driver comes first, so that the expressions behind it never see devices of other drivers.
    """
    health = f'device.attributes["{naming.attribute_domain}"]'
    ours = f'device.driver == "{naming.driver}"'
    healthy = (
        ours,
        f'device.attributes["{naming.driver}"].type == "gpu"',
        f"{health}.score > 90",
        f"{health}.xidErrors == 0",
        f'{health}.nvlinkStatus in ["active", "none"]',
    )
    return _device_class(DEVICE_CLASS, ours), _device_class(f"healthy.{DEVICE_CLASS}", " && ".join(healthy))


def _device_class(name: str, expression: str) -> Obj:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }
