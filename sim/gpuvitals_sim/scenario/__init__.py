"""Scenarios: actions on simulated nodes and expectations. `gpuvitals_sim.demo` plays them.

May live here: models and their loader. May not: anything that runs a scenario.

A scenario is one YAML file, checked on load: unknown fields, wrong types and devices that don't exist are refused with
file, line and field. Layout:

    name: xid79                      # lower case, dashes
    description: one line
    nodes: {count: 2, gpus: 8, profile: h100}     # nodes are numbered from 0; `node_names` names them
    policy: {probation_seconds: 4}   # values of health.policy by name, in whole seconds or as "4s"
    steps:
      - title: the heading of the step
        about: an explanation (optional)
        do:                          # in order; each entry has exactly one key
          - xid: {node: 0, gpu: 3, code: 79, message: "...", process: python, repeat: 1}
          - kernel_line: {node: 0, text: "..."}          # any other line of the kernel log
          - off_bus: {node: 0, gpu: 3}                   # gone from PCI; the kernel logs XID 79
          - lose: {node: 0, gpu: 3}                      # NVML answers GPU_IS_LOST for it
          - set: {node: 0, gpu: 3, readings: {thermal_margin_celsius: 3}}
          - reset: {node: 0, gpu: 3}                     # a reset that the agent can observe
          - noise: {lasts: 3s, node: 0}                  # heat, correctable errors, application XIDs; no node: all
          - wait: 2s
          - create_pod: {name: train, claim: {count: 1, selector: 'device.attributes["health"].score > 90'}}
          - delete_pod: train
          - restart: {component: kubelet, node: 0}       # kubelet | agent: stopped, and started again
          - kill: {component: agent, node: 0}            # SIGKILL
          - start: {component: agent, node: 0}
          - mark: {}                                     # stores slices and write counts; each step begins with one
          - expect: ...

A GPU is addressed by node and index in PCI order, from 0. Durations are `500ms`, `2s`, `1m` or seconds.
An expectation has one subject and, optionally, `within` (must become true in this time, default 5s) or `holds` (must
stay true for this time):

    expect: {device: {node: 0, gpu: 3, state: Unhealthy, score: 0, reason: Xid79, taint: unhealthy}, within: 2s}
    expect: {pod: {name: train, phase: Running, condition: {type: PodScheduled, status: "True"}, health: Unhealthy}}
    expect: {claim: {pod: train, condition: {type: Healthy, status: "False", reason: Xid79}}}
    expect: {siblings: {node: 0, gpu: 3}}                # all other devices byte-identical to the last mark
    expect: {slices: {node: 0, devices: 8}}
    expect: {registered: {node: 0}}                      # the kubelet has the driver's plugin connected
    expect: {writes: {node: 0, resource: resourceslices, at_most: 0}, holds: 3s}      # since the last mark

`device: {out: true}` is true when new claims can't get the device: tainted NoSchedule or withdrawn from the slice.
"""

from gpuvitals_sim.scenario.loader import ScenarioError, builtin_names, load, load_builtin
from gpuvitals_sim.scenario.model import Entry, Nodes, Scenario, Step

__all__ = ["Entry", "Nodes", "Scenario", "ScenarioError", "Step", "builtin_names", "load", "load_builtin"]
