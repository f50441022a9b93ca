"""The kubelet's sockets, opened before anything slow is imported: the kubelet's clock runs.

Nothing here may import the Kubernetes client. Until `wiring.node` attaches the rest, calls are answered
with "starting", and the kubelet asks again.
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.driverfiles.place import DriverPlace
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.plugin import KubeletPlugin
from gpuvitals.kubeletplugin.settings import DriverRootSettings, PluginSettings
from gpuvitals.model.ids import NodeName
from gpuvitals.signals.clock import SystemClock
from gpuvitals.yaml_text import yaml_documents

_DRIVER = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")


def plugin_settings(options: NodeOptions, naming: Naming) -> PluginSettings:
    """The kubelet edge's settings: all it needs before anything slow is imported."""
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
    """Where the NVML worker looks for the driver: where the files of containers are looked for."""
    return DriverPlace(
        root=options.driver_root,
        proc_root=options.proc_root,
        library_directories=options.driver_libraries,
    )


class Sockets:
    """The plugin, which `open` opens. What ends it is told to `on_failure`'s listener, also when it came before that."""

    def __init__(self, options: NodeOptions, naming: Naming) -> None:
        self.naming = naming
        self.is_open = False
        self._lock = threading.Lock()
        self._reason = ""
        self._listener: Callable[[str], None] = lambda reason: None
        self.plugin = KubeletPlugin(plugin_settings(options, naming), SystemClock(), self._failed)

    def open(self) -> None:
        """Opens the sockets, once. Raises what the plugin raises."""
        if not self.is_open:
            self.plugin.start()
            self.is_open = True

    def stop(self, deadline_seconds: float) -> None:
        """Closes the sockets where they are open."""
        if self.is_open:
            self.plugin.stop(deadline_seconds)
            self.is_open = False

    def on_failure(self, listener: Callable[[str], None]) -> None:
        """Has `listener` told why the plugin can't go on."""
        with self._lock:
            self._listener, reason = listener, self._reason
        if reason:
            listener(reason)

    def _failed(self, reason: str) -> None:
        with self._lock:
            self._reason, listener = reason, self._listener
        listener(reason)


def early_naming(config: Path | None) -> Naming | None:
    """The names that the file gives, before it is checked; None where it must be checked first to know them."""
    if config is None:
        return Naming()
    try:
        documents = yaml_documents(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    content = next(iter(documents), None) or {}
    if not isinstance(content, dict):
        return None
    defaults = Naming()
    driver = content.get("driver", defaults.driver)
    group = content.get("api_group", defaults.api_group)
    domain = content.get("attribute_domain", defaults.attribute_domain)
    names = (driver, group, domain)
    if not all(isinstance(name, str) and _DRIVER.fullmatch(name) for name in names):
        return None
    return Naming(driver=driver, api_group=group, attribute_domain=domain)
