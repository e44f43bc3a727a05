"""Adds what runs measured to the rates that are known beforehand.

``python benchmarks/rates.py results/rates.json``: each run's end keeps there what its jobs took.
``neuraldiffuser plan`` multiplies work by these rates, and ``snakemake --logger progress`` weighs
jobs by them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow_scripts"))

from neuraldiffuser.inspection.rates import KNOWN, read_rates, update, write_rates

if __name__ == "__main__":
    write_rates(KNOWN, update(read_rates(KNOWN), read_rates(Path(sys.argv[1]))))
