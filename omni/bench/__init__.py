"""Speed and memory, measured as ratios within one run and printed with the load of the machine."""
