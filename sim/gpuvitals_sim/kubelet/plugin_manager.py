"""All registered plugins: the instance that gets a driver's calls, and the deletion of a driver's slices.

Place in the chain: the registrar adds and removes plugins; the preparer calls the favourite.
Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go; observed on 1.37.2.
"""

import logging
import threading
from collections.abc import Callable

from gpuvitals_sim.kubelet.config import PluginView
from gpuvitals_sim.kubelet.plugin import Plugin

log = logging.getLogger(__name__)


class NotRegistered(Exception):
    """No plugin of the driver is registered; the message goes into the pod's event."""


class PluginManager:
    """Thread safe. `wipe(driver)` is called on a timer thread after a driver had no connected plugin for the delay."""

    def __init__(self, wiping_delay_seconds: float, wipe: Callable[[str], None]) -> None:
        self._delay = wiping_delay_seconds
        self._wipe = wipe
        self._lock = threading.Lock()
        self._closed = False
        self._plugins: list[Plugin] = []
        self._timers: dict[str, threading.Timer] = {}
        self._closers: list[threading.Thread] = []

    def has(self, driver: str, endpoint: str) -> bool:
        """Whether this endpoint is already registered for the driver."""
        with self._lock:
            return any((one.id.driver, one.id.endpoint) == (driver, endpoint) for one in self._plugins)

    def add(self, plugin: Plugin) -> None:
        """Registers an instance, which gets the driver's calls from now on."""
        with self._lock:
            self._plugins.append(plugin)
            self._watch_over(plugin.id.driver)

    def remove(self, plugin: Plugin) -> None:
        """Removes an instance and closes its connection."""
        with self._lock:
            self._plugins = [one for one in self._plugins if one is not plugin]
            self._watch_over(plugin.id.driver)
            self._close_aside(plugin)

    def favourite(self, driver: str) -> Plugin:
        """The instance that gets calls: the last registered one that is connected. Raises NotRegistered."""
        with self._lock:
            found = self._favourite(driver)
        if found is None:
            raise NotRegistered(f"DRA driver {driver} is not registered")
        return found

    def connection_changed(self, plugin: Plugin) -> None:
        """Starts or stops the driver's wiping delay after a change of a connection."""
        with self._lock:
            self._watch_over(plugin.id.driver)

    def views(self) -> tuple[PluginView, ...]:
        """The registered instances, oldest first."""
        with self._lock:
            return tuple(
                PluginView(
                    driver=one.id.driver,
                    endpoint=one.id.endpoint,
                    dra_version=one.id.dra_service.split(".")[0],
                    health_version=one.id.health_service.split(".")[0],
                    connected=one.connected,
                    favourite=one is self._favourite(one.id.driver),
                    registered_at=one.registered_at,
                )
                for one in self._plugins
            )

    def close(self) -> None:
        """Closes every connection without wiping, as when a kubelet is stopped."""
        with self._lock:
            self._closed = True
            for plugin in self._plugins:
                self._close_aside(plugin)
            timers, closers = list(self._timers.values()), list(self._closers)
            self._plugins, self._timers, self._closers = [], {}, []
        for timer in timers:
            timer.cancel()
        for thread in (*timers, *closers):
            thread.join()

    def _close_aside(self, plugin: Plugin) -> None:
        """Closes the plugin on a thread of its own, since that takes half a second. Called under the lock."""
        self._closers = [thread for thread in self._closers if thread.is_alive()]
        thread = threading.Thread(target=plugin.close, name=f"kubelet closing {plugin.id.driver}")
        thread.start()
        self._closers.append(thread)

    def _favourite(self, driver: str) -> Plugin | None:
        instances = [one for one in self._plugins if one.id.driver == driver]
        connected = [one for one in instances if one.connected]
        best = connected or instances
        return best[-1] if best else None

    def _watch_over(self, driver: str) -> None:
        """Makes the timer run exactly while no instance of the driver is connected. Called under the lock."""
        connected = any(one.connected for one in self._plugins if one.id.driver == driver)
        timer = self._timers.pop(driver, None)
        if connected or self._closed:
            if timer is not None:
                timer.cancel()
            return
        if timer is None:
            timer = threading.Timer(self._delay, self._wipe_now, (driver,))
            timer.name = f"kubelet wiping {driver}"
            timer.start()
        self._timers[driver] = timer

    def _wipe_now(self, driver: str) -> None:
        with self._lock:
            mine = self._timers.get(driver) is threading.current_thread()
            if mine:
                del self._timers[driver]
        if mine:
            self._wipe(driver)
