"""`gpuvitals demo`: plays a scenario on a small cluster of real agents and simulated parts, and reports each step.

May live here: the execution of a scenario's actions, the checks of its expectations, and the texts. May not: simulated
parts, and a verdict of its own: expectations are checked on the API server, its request log and the kubelet.

    wiring.py           the cluster of a scenario, composed by `gpuvitals_sim.cluster`
    action_runner.py    performs an action: a kernel log line, a lost GPU, a pod, a kill; `objects.py` has the API bodies,
                        `noise.py` the harmless events
    observer.py         compares the cluster with one expectation; `api_objects.py` reads fields of API objects
    scenario_runner.py  runs the steps and yields progress; `descriptions.py` has the texts, `report.py` formats them
"""
