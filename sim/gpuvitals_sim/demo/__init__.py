"""`gpuvitals demo`: plays a scenario on a small cluster of real agents and simulated parts, and reports each step.

May live here: what a scenario's actions do to the cluster, how its expectations are checked, and the texts. May not: a
simulated part (those are the neighbours), and a verdict of its own: whether an expectation holds is read from the API
server, from its request log and from the kubelet.

    cluster.py          starts and stops the parts in order; `agent.py` is one node's agent as a process
    action_runner.py    performs an action: a kernel log line, a lost GPU, a pod, a kill; `objects.py` has the API bodies,
                        `noise.py` the harmless events
    observer.py         compares the cluster with one expectation; `api_objects.py` reads fields of API objects
    scenario_runner.py  walks the steps and yields progress; `descriptions.py` puts it into words, `report.py` formats it
"""
