"""External reports of GPU health, by operators and programs: the drop-in folder, and the text of a report.

May live here: finding and parsing reports. May not: deciding which reports apply; the agent does that.
"""
