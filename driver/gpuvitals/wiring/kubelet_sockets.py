"""Composes the kubelet's sockets, which open before anything slow is imported: the kubelet has a deadline.

Must not import the Kubernetes client. Until `wiring.node` attaches the rest, calls are answered with "starting", and the
kubelet retries.
"""

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.driverfiles.place import DriverPlace
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.settings import DriverRootSettings, PluginSettings
from gpuvitals.model.ids import NodeName
from gpuvitals.node.process_failure import ProcessFailure
from gpuvitals.signals.clock import SystemClock


def plugin_settings(options: NodeOptions, naming: Naming) -> PluginSettings:
    """The settings of the kubelet edge."""
    return PluginSettings(
        node=NodeName(options.node),
        naming=naming,
        data_directory=options.state_directory,
        registry_directory=options.registry_directory,
        cdi_directory=options.cdi_directory,
        boot_id_file=options.boot_id_file,
        pod_uid=options.pod_uid,
        driver_root=DriverRootSettings(
            driver_root=options.driver_root,
            driver_root_on_host=options.driver_root_on_host,
            dev_root=options.dev_root,
            dev_root_on_host=options.dev_root_on_host,
            proc_root=options.proc_root,
            library_directories=options.driver_libraries,
            require_character_devices=not options.simulated,
        ),
    )


def driver_place(options: NodeOptions) -> DriverPlace:
    """The folders in which the NVML worker searches the driver: the same as for files of containers."""
    return DriverPlace(
        root=options.driver_root,
        proc_root=options.proc_root,
        library_directories=options.driver_libraries,
    )


class Sockets:
    """The kubelet plugin with its open sockets, and the `failure` that ends the process."""

    def __init__(self, options: NodeOptions, naming: Naming) -> None:
        self.naming = naming
        self.is_open = False
        self.failure = ProcessFailure()
        self.plugin = KubeletPlugin(plugin_settings(options, naming), SystemClock(), self.failure.fail)

    def open(self) -> None:
        """Opens the sockets, once. Raises the errors of KubeletPlugin.start."""
        if not self.is_open:
            self.plugin.start()
            self.is_open = True

    def stop(self, deadline_seconds: float) -> None:
        """Closes the sockets if they are open."""
        if self.is_open:
            self.plugin.stop(deadline_seconds)
            self.is_open = False
