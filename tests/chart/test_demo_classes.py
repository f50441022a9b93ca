"""What a person learns in the demo holds on a cluster: the demo's device classes are those of the chart."""

from chart.rendering import golden_objects
from gpuvitals.inventory.naming import Naming
from gpuvitals_sim.cluster.driver_objects import device_classes


def test_the_demo_has_the_device_classes_of_the_chart() -> None:
    """Finding U3: the install guide's pod asked for a class that the demo did not have."""

    def expressions(items: object) -> dict[str, list[str]]:
        assert isinstance(items, list | tuple)
        return {
            item["metadata"]["name"]: [
                " ".join(each["cel"]["expression"].split()) for each in item["spec"]["selectors"]
            ]
            for item in items
            if item["kind"] == "DeviceClass"
        }

    assert expressions(device_classes(Naming())) == expressions(golden_objects("default"))
