"""What every benchmark stands on: the control plane, both drivers under measurement, the measuring ends, the figures."""
