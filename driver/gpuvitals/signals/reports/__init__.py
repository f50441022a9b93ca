"""Reports of GPU health by people and programs: the drop-in folder and the text of a report.

May live here: finding and parsing reports. May not: the decision which report stands; that is the agent's.
"""
