"""How cases are measured and judged: the verdict on a result, the processes that time, the machine, the report."""
